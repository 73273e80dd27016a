// The few keys the page keeps for itself while a terminal has the focus; all others are the program's.

type Key = Pick<KeyboardEvent, 'type' | 'key' | 'ctrlKey' | 'shiftKey' | 'altKey' | 'metaKey'>;

const chord = (event: Key): string =>
  [event.ctrlKey && 'ctrl', event.shiftKey && 'shift', event.altKey && 'alt', event.metaKey && 'meta', event.key.toLowerCase()]
    .filter(Boolean)
    .join('+');

/** The way out of the terminal for the keyboard: Tab belongs to the program. */
export const isLeaveKey = (event: Key): boolean => chord(event) === 'ctrl+shift+l';

export const isCopyKey = (event: Key): boolean => ['ctrl+shift+c', 'ctrl+insert'].includes(chord(event));
