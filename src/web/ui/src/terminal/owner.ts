// Of several tabs of one browser that show the same terminal, only the one last worked in answers a program's questions.

export interface Claim {
  /** Whether this tab has it. */
  held(): boolean;
  /** The operator works here now. */
  take(): void;
  dispose(): void;
}

export function claimOn(channel: string): Claim {
  const tabs = new BroadcastChannel('kas.owner');
  let held = false;
  tabs.onmessage = ({ data }) => {
    if (data === channel) held = false;
  };
  return {
    held: () => held,
    take: () => {
      if (held) return;
      held = true;
      tabs.postMessage(channel);
    },
    dispose: () => tabs.close(),
  };
}
