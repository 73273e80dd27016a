// What is pasted, from wherever it comes: text, and nothing that ends a bracketed paste or is a key.

/**
 * Controls but tab and line ends: ESC and the C1 controls, which could end a bracketed paste, and the others, which a terminal's line discipline
 * takes for keys even inside one (^C, ^D, ^Z, erase). xterm, foot and VTE keep the same from a program.
 */
const CONTROLS = /(?![\t\n\r])\p{Cc}/gu;

/** Text as a program may be given it by a paste. */
export const pasteable = (text: string): string => text.replace(CONTROLS, '');

/** Ways of inserting that carry text from elsewhere. */
const FROM_ELSEWHERE = new Set(['insertFromPaste', 'insertFromPasteAsQuotation', 'insertFromDrop', 'insertFromYank', 'insertReplacementText']);

/** What is used of an `InputEvent`. */
export interface Insertion {
  inputType: string;
  data: string | null;
  dataTransfer: Pick<DataTransfer, 'getData'> | null;
}

/**
 * The text that an insertion brings from elsewhere; null when it was typed. Keyboards on screens insert what they keep of the clipboard, and some
 * call it typing: what has a control or a line end among other text was not typed.
 */
export function insertedText({ inputType, data, dataTransfer }: Insertion): string | null {
  if (!inputType.startsWith('insert')) return null;
  const text = data ?? dataTransfer?.getData('text/plain') ?? '';
  const typed = !FROM_ELSEWHERE.has(inputType) && (text.length <= 1 || !/\p{Cc}/u.test(text));
  return typed ? null : text;
}

/** Gives `paste` all text that is pasted or dropped into `container`, before the terminal sees the event; returns the way to stop. */
export function takePastes(container: HTMLElement, paste: (text: string) => void): () => void {
  const take = (event: Event, text: string): void => {
    event.preventDefault();
    event.stopPropagation();
    const clean = pasteable(text);
    if (clean !== '') paste(clean);
  };
  const pasted = (event: ClipboardEvent): void => take(event, event.clipboardData?.getData('text/plain') ?? '');
  const inserted = (event: InputEvent): void => {
    const text = event.cancelable ? insertedText(event) : null;
    if (text !== null) take(event, text);
  };
  // A composition cannot be refused, and the terminal reads it from the field after it ended.
  const composed = ({ target }: CompositionEvent): void => {
    if (target instanceof HTMLTextAreaElement && target.value !== pasteable(target.value)) target.value = pasteable(target.value);
  };
  const dragged = (event: DragEvent): void => event.preventDefault(); // else nothing may be dropped
  const dropped = (event: DragEvent): void => take(event, event.dataTransfer?.getData('text/plain') ?? '');
  const ends = new AbortController();
  const options = { capture: true, signal: ends.signal };
  container.addEventListener('paste', pasted, options);
  container.addEventListener('beforeinput', inserted, options);
  container.addEventListener('compositionend', composed, options);
  container.addEventListener('dragover', dragged, options);
  container.addEventListener('drop', dropped, options);
  return () => ends.abort();
}
