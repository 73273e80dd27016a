// What programs print that changes what a terminal shows or how it goes on: every attribute, link and mode, and random mixtures of them.

const ESC = '\x1b';
const csi = (text) => `${ESC}[${text}`;
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

/** Each SGR parameter by itself, and the forms of those that have several. */
const SGR = [
  ...range(0, 107).filter((n) => ![38, 48, 58].includes(n)).map(String),
  ...[38, 48, 58].flatMap((n) => [`${n};5;200`, `${n};2;1;2;3`, `${n}:5:9`, `${n}:2::1:2:3`, `${n}:2:0:1:2:3`, `${n}:2:1:2:3`, `${n};2::1:2:3`, `${n};5`, `${n};2;1`, `${n}:5`, `${n}:2`, `${n}`, `${n}:6:1`, `${n};5;300`, `${n}:2::1`]),
  ...range(0, 7).map((style) => `4:${style}`), '4:', '4:3:1', '', ';', '1;;3', '1;3;4;9;53', '38;5;1;48;5;2;4:3;58:5:3', '97;41;1;2;3;5;7;8;9', '1:2', '0:1',
];

const MODES = [1, 3, 5, 6, 7, 8, 9, 12, 25, 40, 45, 47, 66, 67, 69, 1000, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 1047, 1048, 1049, 2004, 2026, 2027, 2031];

const LINKS = [`${ESC}]8;;http://one/${ESC}\\`, `${ESC}]8;id=a;http://two/?a;b\x07`, `${ESC}]8;id=a:x=y;http://two/?a;b\x07`, `${ESC}]8;;\x07`, `${ESC}]8;id=a;\x07`, `${ESC}]8;x\x07`, `${ESC}]8;;mailto:a@b\u009c`];

const filled = range(1, 30).map((n) => `line ${n}\r\n`).join('');

/** Streams by what they are about. */
export const STREAMS = {
  'every attribute, set, joined with others, and reset': SGR.flatMap((sgr) => [
    `a${csi(`${sgr}m`)}b\r\n c${csi('K')}`,
    `${csi('1;3;4:3;5;7;8;9;53;31;42;58;5;7m')}a${csi(`${sgr}m`)}b${csi('3P')}${ESC}7${csi('m')}`,
  ]),
  'links': LINKS.flatMap((link) => [`a${link}b c`, `${LINKS[0]}a${link}b${csi('m')}c${ESC}]8;;\x07d`, `${link}${'long '.repeat(20)}`]),
  'every mode, set and reset': MODES.flatMap((mode) => [
    `a\r\nbc${csi(`?${mode}h`)}d`,
    `a${csi(`?${mode}h`)}b${csi('3;4H')}c${csi(`?${mode}l`)}d`,
    `${filled}${csi(`?${mode}h`)}b${csi('!p')}d`,
  ]).concat([4, 20, 2].flatMap((mode) => [`abc${csi(`${mode}h`)}\r\x1b[5Gd\ne`, `${csi(`${mode}h`)}a${csi(`${mode}l`)}b\nc`])),
  'tab stops': [
    csi('3g'), `${csi('3g')}${csi('1;5H')}${ESC}H${csi('1;20H')}${ESC}H${csi('1;1H')}\ta`, `${csi('9G')}${csi('g')}\r\t\tx`, `\t\t${ESC}Hx${csi('2Z')}y${csi('3I')}z`,
    `${csi('3g')}${csi('?1049h')}\tx`, `${csi('?1049h')}${csi('3g')}${csi('?1049l')}\tx`,
  ],
  'the saved cursor': [
    `${csi('7;9H')}${ESC}7${csi('2;2H')}`, `${csi('31;1;4m')}${csi('5;5H')}${csi('s')}${csi('m')}x`, `${filled}${ESC}7${filled}x`, `${filled}${ESC}7x\r\ny\r\nz`,
    `${ESC}(0${ESC}7${ESC}(Bq`, `a${csi('?47h')}${csi('3;3H')}${csi('32m')}${ESC}7${csi('?47l')}b`, `a${csi('?1049h')}${csi('3;3H')}b`, `a${csi('?1048h')}${csi('3;3H')}b${csi('?1048l')}c`,
    `${'x'.repeat(40)}${ESC}7`, `${csi('2;5r')}${csi('?6h')}${csi('2;2H')}${ESC}7${csi('?6l')}`,
  ],
  'margins': [
    csi('3;7r'), `${filled}${csi('3;7r')}${csi('7;1H')}a\r\nb\r\nc`, `${csi('3;7r')}${csi('?6h')}${csi('2;3H')}x`, `${csi('2;4r')}${csi('?1049h')}x`, `${csi('?1049h')}${csi('2;4r')}x`,
    `${csi('3;7r')}${csi('r')}x`, `${csi('7;3r')}x`, `${filled}${csi('1;5r')}${csi('5;1H')}a\r\nb\r\nc`, `${filled}${csi('3;7r')}${csi('3;1H')}${ESC}M${ESC}Mx`,
  ],
  'the alternate screen': [
    `main${csi('?1049h')}${csi('2J')}${csi('2;3H')}alt`, `main${csi('?1049h')}alt${csi('?1049l')}back`, `${csi('44m')}main${csi('?1049h')}alt`, `${filled}x${csi('?47h')}y${csi('?47l')}z`, `${csi('5;5H')}a${csi('?1047h')}b`,
  ],
  'titles, colours and the cursor': [
    `${ESC}]0;job 7 of 9\x07`, `${ESC}]2;a${ESC}\\${ESC}]2;b;c${ESC}\\`, `${ESC}]2;a\x07${ESC}]2;\x07`, `${ESC}]1;icon\x07x`, ...range(0, 7).map((style) => `x${csi(`${style} q`)}`), `${csi('6 q')}${csi('!p')}`,
    `${ESC}]4;1;#123456\x07x`, `${ESC}]11;rgb:1/2/3\x07x`,
  ],
  'lines that go on': [
    'x'.repeat(100), `${'x'.repeat(40)}`, `${'x'.repeat(39)}漢`, `${'x'.repeat(38)}漢`, `${'x'.repeat(39)}漢字`, `${csi('41m')}${'x'.repeat(50)}${csi('K')}`, `${'x'.repeat(80)}${csi('2A')}${csi('K')}`,
    `${'x'.repeat(80)}${csi('1A')}\r${csi('5X')}`, `${filled}${csi('41m')}${'x'.repeat(100)}`, `${'x'.repeat(40)}${csi('1m')}`, `${'x'.repeat(40)}${csi('K')}`, `${'x'.repeat(60)}\r${csi('3P')}`, `${filled}${csi('?7l')}${'x'.repeat(60)}`,
    `${csi('42m')} ${'x'.repeat(38)} ${' '.repeat(10)}`,
  ],
  'wide, joined and combining': ['e\u0301x', `e${csi('1m')}\u0301x`, '\u0301x', '漢\u0301x', `${'x'.repeat(39)}e\u0301`, `漢字${csi('1;2H')}x`, `漢字${csi('1;3H')}x`, `漢字${csi('1;2H')}${csi('P')}`, `漢字${csi('1;2H')}${csi('@')}`, `漢字${csi('1;4H')}${csi('X')}`, '각\u11a8x', `${csi('4h')}漢${csi('1G')}字x`, `漢${csi('3b')}`, `x\u0301${csi('2b')}`],
  'character sets': [`${ESC}(0lqqk${ESC}(Bx`, `${ESC})0a\x0eq\x0fq`, `${ESC}(0q`, `${ESC}*0${ESC}nq`, `${ESC}+A${ESC}o#`, `${ESC}(K[]`, `${ESC}(%q`, `${ESC}(0${ESC}%@q`, `${ESC})0${ESC}~q`, `${ESC}-0\x0eq`, `${ESC}/0q`],
  'erasing, inserting, deleting': [0, 1, 2, 3].flatMap((n) => ['J', 'K'].flatMap((last) => [`${filled}${csi('44m')}${csi('5;5H')}${csi(`${n}${last}`)}x`, `${filled}${csi('1"q')}kept${csi('0"q')}${csi(`?${n}${last}`)}x`]))
    .concat(['@', 'P', 'X', 'L', 'M', 'S', 'T'].flatMap((last) => [`${filled}${csi('45m')}${csi('5;3H')}${csi(`2${last}`)}x`, `${filled}${csi('5;3H')}${csi(`99${last}`)}x`]))
    .concat([' @', ' A', "'}", "'~"].map((last) => `${filled}${csi('46m')}${csi('5;3H')}${csi(`2${last}`)}x`), [`${ESC}#8`, `${csi('41m')}${ESC}#8x`]),
  'what is cut off, and odd': [`abc${csi('3')}`, `abc${ESC}`, `abc${ESC}]2;ti`, `abc${ESC}]2;title${ESC}`, `abc${ESC}P$q`, 'abc\xe6', `abc${csi('3\r\n1')}`, `${csi('1')}${csi('31m')}x`, `${csi('38:2')}`, '\u009b31mx\u009d2;t\u009c\u0085y\u0084z', `a${ESC}_app\u00e9c${ESC}\\b`, '\ufeffa\x7fb\x00c', `${ESC}]2;${'x'.repeat(900)}\x07y`],
  'reset': [`${csi('31;?25l')}x${ESC}c`, `${filled}${csi('?1049h')}${csi('?25l')}${csi('3g')}${ESC}cx`, `${csi('?1h')}${csi('4h')}${csi('!p')}done`, `${csi('20h')}${ESC}cx\ny`],
};

/** The cursor is put back. xterm.js then has flags of the look that was saved with the underline of the one before, which only a reset parts. */
const PUT_BACK = new RegExp(`${ESC}(8|\\[[0-9;]*u|\\[\\?104[89]l)`, 'g');

/** A stream of up to forty pieces. */
export function randomStream(next) {
  const pick = (list) => list[next(list.length)];
  const number = () => pick(['', '0', '1', '2', '3', '5', '9', '13', '40', '41', '200']);
  const all = Object.values(STREAMS).flat();
  const pieces = [
    () => pick(['a', 'bc', 'word ', 'x'.repeat(next(90)), '\r\n', '\r', '\n', '\b', '\t', ' ', '\r\n\r\n', '漢', '字x', 'e\u0301', 'é', '─']),
    () => csi(`${pick(SGR)}m`),
    () => csi(`${number()};${number()}${pick([...'HfrABCDEFGIJKLMPSTXZ@`abdeghlsu'])}`),
    () => csi(`?${pick(MODES)}${pick(['h', 'l'])}`),
    () => pick([...LINKS, `${ESC}7`, `${ESC}8`, `${ESC}M`, `${ESC}D`, `${ESC}E`, `${ESC}H`, `${ESC}(0`, `${ESC}(B`, '\x0e', '\x0f', csi('!p'), csi('4h'), csi('4l')]),
    () => pick(all),
  ];
  return Array.from({ length: next(40) }, () => pick([...pieces.slice(0, 4), ...pieces.slice(0, 2), pieces[4], ...(next(6) === 0 ? [pieces[5]] : [])])()).join('').replace(PUT_BACK, `$&${csi('m')}`);
}
