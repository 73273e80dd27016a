// xterm.js without a browser, and what one terminal shows, in a form that can be compared.

import { createRequire } from 'node:module';

// The one the page is built with.
const { Terminal } = createRequire(new URL('../../src/web/ui/package.json', import.meta.url))('@xterm/headless');

/** As the page has it: what is erased goes above the screen. */
const OPTIONS = { scrollback: 10_000, scrollOnEraseInDisplay: true, allowProposedApi: true, logLevel: 'off' };

/** Feeds a fresh terminal `parts` in order: bytes, or a size `{ cols, rows }`. */
export async function terminal(cols, rows, ...parts) {
  const term = new Terminal({ cols, rows, ...OPTIONS });
  // It forgets a link's address with the lines it was used in, cells that were moved elsewhere notwithstanding.
  term._core._oscLinkService._removeMarkerFromLink = () => {};
  let title = '';
  term.onTitleChange((text) => (title = text));
  for (const part of parts) {
    if (part.cols) term.resize(part.cols, part.rows);
    else await new Promise((done) => term.write(part, done));
  }
  return { term, title: () => title };
}

const FLAGS = {
  bold: 'isBold', dim: 'isDim', italic: 'isItalic', blink: 'isBlink', inverse: 'isInverse',
  hidden: 'isInvisible', strike: 'isStrikethrough', overline: 'isOverline',
};

/** How a cell looks, in words. */
function look(cell, links) {
  const words = Object.keys(FLAGS).filter((flag) => cell[FLAGS[flag]]());
  if (!cell.isFgDefault()) words.push(`fg ${cell.getFgColorMode()} ${cell.getFgColor()}`);
  if (!cell.isBgDefault()) words.push(`bg ${cell.getBgColorMode()} ${cell.getBgColor()}`);
  if (cell.getUnderlineStyle() > 0) {
    words.push(`underline ${cell.getUnderlineStyle()}`);
    if (!cell.isUnderlineColorDefault()) words.push(`line ${cell.getUnderlineColorMode()} ${cell.getUnderlineColor()}`);
  }
  if (cell.isProtected?.()) words.push('protected');
  const link = cell.hasExtendedAttrs() ? links.getLinkData(cell.extended.urlId) : undefined;
  if (link) words.push(`link ${link.id ?? ''} ${link.uri}`);
  return words.join(', ');
}

/** The lines of a buffer, each a list of runs `[look, text]`; of the last `count` lines. Spaces at the end that look like nothing are left out. */
function lines(core, buffer, count) {
  const out = [];
  for (let y = Math.max(0, buffer.lines.length - count); y < buffer.lines.length; y += 1) {
    const line = buffer.lines.get(y);
    const runs = [];
    for (let x = 0; x < core.cols; x += 1) {
      const cell = line.loadCell(x, new (core.buffer.getNullCell().constructor)());
      // The second half of a wide character; what is left of one without the first is an empty cell.
      if (cell.getWidth() === 0 && cell.getChars() === '' && x > 0 && line.getWidth(x - 1) === 2) continue;
      // Where wrapping is off, a half of a wide character is overwritten at the right margin and the other stays: no program can write that.
      const whole = cell.getWidth() < 2 || (x + 1 < core.cols && line.getWidth(x + 1) === 0 && !line.hasContent(x + 1));
      const [how, text] = [look(cell, core._oscLinkService), (whole && cell.getChars()) || ' '];
      if (runs.at(-1)?.[0] === how) runs.at(-1)[1] += text;
      else runs.push([how, text]);
    }
    if (runs.at(-1)?.[0] === '') runs.at(-1)[1] = runs.at(-1)[1].trimEnd();
    out.push(runs.filter(([how, text]) => how !== '' || text !== ''));
  }
  return out;
}

/** How text looks that is written with these attributes. */
function attributes(core, { fg, bg, extended }) {
  const cell = new (core.buffer.getNullCell().constructor)();
  return look(Object.assign(cell, { fg, bg, extended }), core._oscLinkService);
}

/** Everything there is to see, and everything that what comes later depends on. `LINES` of each buffer. */
export function seen({ term, title }, count = 2_000) {
  const core = term._core;
  const handler = core._inputHandler;
  const buffer = core.buffer;
  const half = (it) => ({
    lines: lines(core, it, count),
    saved: [Math.min(it.savedX, core.cols - 1), Math.min(Math.max(it.savedY - it.ybase, 0), core.rows - 1), attributes(core, it.savedCurAttrData), it.savedCharset],
    region: [it.scrollTop, it.scrollBottom],
    tabs: Object.keys(it.tabs).filter((col) => it.tabs[col] && col < core.cols).join(' '),
  });
  return {
    main: half(core._bufferService.buffers.normal),
    alternate: buffer === core._bufferService.buffers.alt ? half(buffer) : null,
    cursor: [buffer.x, buffer.y],
    look: attributes(core, handler._curAttrData),
    charset: core._charsetService.charset,
    modes: { ...core.coreService.modes, ...core.coreService.decPrivateModes, hidden: core.coreService.isCursorHidden, newline: core.options.convertEol, blink: core.options.cursorBlink },
    mouse: [core.coreMouseService.activeProtocol, core.coreMouseService.activeEncoding],
    title: title(),
  };
}
