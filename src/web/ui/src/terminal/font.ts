// The font of terminals. It comes with the page, so a cell is the same everywhere and holds all of each character: with Debian's DejaVu at the usual
// size the underscore fell out of it.

import bold from 'jetbrains-mono/fonts/webfonts/JetBrainsMonoNL-Bold.woff2?url';
import regular from 'jetbrains-mono/fonts/webfonts/JetBrainsMonoNL-Regular.woff2?url';

const NAME = 'kas mono';
/** The others are for characters that it does not have. */
export const FONT = `"${NAME}", ui-monospace, "JetBrains Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace`;
/** How long the page may wait for it; without it terminals have another font. */
const PATIENCE_MS = 3_000;

const SIZE_KEY = 'kas.fontSize';
const SIZE_PX = { usual: 14, least: 8, most: 32 };

/** The size of terminals' text: what this browser keeps under `kas.fontSize`, or the usual. */
export function fontSize(): number {
  const kept = Number(localStorage.getItem(SIZE_KEY) ?? SIZE_PX.usual);
  return kept >= SIZE_PX.least && kept <= SIZE_PX.most ? kept : SIZE_PX.usual;
}

/** Cells are measured once, so the font is there before the first terminal. */
export async function loadFont(): Promise<void> {
  const faces = [new FontFace(NAME, `url(${regular})`, { weight: '400' }), new FontFace(NAME, `url(${bold})`, { weight: '700' })];
  for (const face of faces) document.fonts.add(face);
  const loaded = Promise.allSettled(faces.map((face) => face.load()));
  await Promise.race([loaded, new Promise((done) => setTimeout(done, PATIENCE_MS))]);
}
