// What was typed into terminals and has not reached their programs: it outlives the views of them, for as long as the page is open.

import { PANES } from '../stream/message';
import { Typing } from '../stream/typing';

/** By project and channel. One for each program that is running, and each keeps at most what `Typing` takes. */
const typings = new Map<string, Map<string, Typing>>();

/** What was typed into a terminal, by whichever view of it. */
export function typingOf(project: string, channel: string): Typing {
  const known = typings.get(project) ?? new Map<string, Typing>();
  const typing = known.get(channel) ?? new Typing();
  typings.set(project, known.set(channel, typing));
  return typing;
}

/** Forgets programs that are over: the channels `ended`, and panes that are not among `panes`. */
export function forgetTypings(project: string, ended: readonly string[], panes: readonly string[]): void {
  const known = typings.get(project);
  if (known === undefined) return;
  for (const channel of ended) known.delete(channel);
  for (const channel of known.keys()) if (channel.startsWith(PANES) && !panes.includes(channel)) known.delete(channel);
}
