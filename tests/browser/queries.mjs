// What programs print that a terminal might answer: every kind of question in every form, whole, odd, huge, cut and nested.

const ESC = '\x1b';
const ST = `${ESC}\\`;

/** Ends whatever a sequence left open. */
const CLOSE = `\x18${ST}`;

/** Undoes the modes that would change what keys, pastes and the mouse send. */
const RESTORE = `${CLOSE}${ESC}[?1;9;66;1000;1001;1002;1003;1004;1005;1006;1015;1016;1049;2004;2026;2027;2031;2048;9001l${ESC}[4;20l${ESC}>${ESC}[<9u${ESC}[=0u${ESC}[>4m\x0f${ESC}(B`;

/** What may have set such a mode. */
const SETS = /[hmu]$/;

/** Asked last of all: its answer says that everything before it was answered, if it ever will be. */
export const SYNC = { ask: `${ESC}c${ESC}[7;13H${ESC}[6n`, answer: `${ESC}[7;13R` };

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);
const hex = (text) => Buffer.from(text).toString('hex');

/** Bodies of CSI sequences. */
const CSI = [
  // Who are you: primary, secondary, tertiary attributes; terminal parameters; version.
  ...['c', '0c', '1c', '>c', '>0c', '=c', '=0c', '>1c', ';c', '0;0c', '00000000000c', '99999999999999999999c', '-1c', '0:0c', 'x', '0x', '1x', '>q', '>0q', '>1q'],
  // How are you, where is the cursor, and the private ones: printer, keys, locator, macros, memory, session, colour scheme.
  ...['5n', '6n', '?5n', '?6n', '?15n', '?25n', '?26n', '?53n', '?55n', '?56n', '?62n', '?63n', '?63;1n', '?75n', '?85n', '?996n', '?997n', '>6n', ';6n', '6;6n', '06n'],
  // Modes.
  ...[1, 2, 3, 4, 12, 20, 0, 99999].map((mode) => `${mode}$p`),
  ...[1, 2, 3, 5, 6, 7, 8, 9, 12, 25, 40, 45, 47, 66, 67, 69, 80, 1000, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 1034, 1035, 1036, 1047, 1048, 1049, 2004, 2026, 2027, 2031, 2048, 9001, 0, 65535]
    .map((mode) => `?${mode}$p`),
  ...['?$p', '$p', '?1;2$p', '?-1$p'],
  // The window: every operation there is, and some there are not.
  ...range(1, 24).map((operation) => `${operation}t`),
  ...['9;1t', '10;2t', '13;2t', '14;2t', '22;0t', '22;1t', '22;2t', '23;0t', '23;1t', '23;2t', '8;50;100t', '4;600;800t', '>2t', '>0;1;2;3t'],
  // Checksums, tab stops, cursor information, keyboard and key formats, colours of the palette stack, locator, graphics.
  ...['1;1;1;1;5;5*y', '1*y', '63;1*y', '1$w', '2$w', '$w', '?u', '>1u', '=1;1u', '<u', '?4m', '?1m', '?0g', '?4g', '#R', '1#R', "'|", "1'|", "1;1'z", '1$u', '2$u', '2;1$u', '&u', '"v'],
  ...['?1;1;0S', '?2;1;0S', '?3;1;0S', '?1;4;0S', '?2;4;0S', '?9;9;9S'],
  // Modes that make keys, the mouse, the focus and the size speak.
  ...['?9h', '?1000h', '?1002h', '?1003h', '?1004h', '?1006h\x1b[?1000h', '?2031h', '?2048h', '?1;3c', '?2004h', '?1h', '20h', '>4;2m', '>31u'],
];

/** Bodies of OSC sequences. */
const OSC = [
  ...[0, 7, 15, 255, 256, -1].map((colour) => `4;${colour};?`),
  ...['4;0;?;1;?;2;?', '4;0;rgb:00/00/00;1;?', '5;0;?', '5;1;?', '10;?;?;?', '10;?x', '4;?', '4', '10', '?'],
  ...range(10, 19).map((which) => `${which};?`),
  ...['104', '104;1', '105', '110', '111', '112', '117', '119', '21;?', '21;foreground=?', '21;background=?;cursor=?', '21;0=?', '22;?', '22;?__current__'],
  ...['52;c;?', '52;p;?', '52;;?', '52;s0;?', '52;c;aGVsbG8=', '52;c;!', '50;?', '51;?', '60', '61', '62;?', '66;?', '99;i=1:p=?;', '1337;ReportCellSize', '1337;ReportVariable=dXNlcg==', '1337;Capabilities', '5522;type=read;aGVsbG8=', '777;notify;a;b', '9;4;1;1', '8;;?', '633;P;?', '3;?', '30001', '30101'],
];

const terminfo = (...names) => names.map(hex).join(';');
const SETTINGS = ['m', 'r', 's', 't', '|', '*|', '$|', '$}', '$~', ' q', '"p', '"q', '*x', ',|', ',}', '-|', ')T', ' q q', '', 'mm', '>m', '0m', `"${'x'.repeat(300)}`];

/** Bodies of DCS sequences. */
const DCS = [
  ...SETTINGS.map((setting) => `$q${setting}`),
  ...['1$q m', '+q', `+q${terminfo('TN')}`, `+q${terminfo('Co')}`, `+q${terminfo('RGB', 'Ms', 'Tc')}`, `+q${terminfo('kcuu1')}`, '+qzz', `+q${'4'.repeat(4001)}`, '+Q544e', '+p544e'],
  ...['q"1;1;5;5#0;2;0;0;0~-', '0;1q#0~', '>|', '=1s', '1$t0', '2$t0', '1!u', '1;1!~1234', '1!z6162'],
];

/** Bodies of APC and other strings. */
const APC = ['Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA', 'Ga=q;', 'Gi=1,a=p', 'Gi=4294967295,a=q,s=1,v=1;AAAA', 'Ga=T,f=24,s=1,v=1;AAAA'];

/** The three ways to write the controls: two bytes, a code point of two bytes, and the one byte that is no UTF-8. */
const FORMS = {
  CSI: ['\x1b[', '\u009b', Buffer.from([0x9b])],
  OSC: ['\x1b]', '\u009d', Buffer.from([0x9d])],
  DCS: ['\x1bP', '\u0090', Buffer.from([0x90])],
  APC: ['\x1b_', '\u009f', Buffer.from([0x9f])],
};
const ENDS = { CSI: [''], OSC: ['\x07', ST, '\u009c'], DCS: [ST, '\u009c'], APC: [ST] };

const bytes = (...parts) => Buffer.concat(parts.map((part) => Buffer.from(part)));

const formed = (kind, bodies) => bodies.flatMap((body) => FORMS[kind].flatMap((start) => ENDS[kind].map((end) => bytes(start, body, end))));

const SINGLE = ['\x05', `${ESC}Z`, '\u009a', `${ESC}[[c`, `${ESC}/Z`, `${ESC} F`, `${ESC} G`, `${ESC}#8${ESC}[6n`, `${ESC}[999;999H${ESC}[6n`, `${ESC}[?6h${ESC}[2;3r${ESC}[6n${ESC}[r${ESC}[?6l`, `${ESC}[?1049h${ESC}[6n`];

const QUESTIONS = [`${ESC}[c`, `${ESC}[6n`, `${ESC}[>q`, `${ESC}]11;?\x07`, `${ESC}P$qm${ST}`, `${ESC}[?2004$p`];

/** Questions with controls, breaks and other sequences inside. */
const ODD = QUESTIONS.flatMap((question) => [
  question.replace(ESC, `${ESC}\0`), `${question.slice(0, -1)}\x18${question}`, `${question.slice(0, -1)}\r\n${question.at(-1)}`, `${question.slice(0, -1)}\x1a`,
  `${ESC}[${'0;'.repeat(2000)}${question}`, `${ESC}]0;${'x'.repeat(6_000)}${question}`, `${ESC}[${'9'.repeat(4000)}${question.at(-1)}`,
]);

/** Every beginning of a question, followed by the next one. */
const CUT = QUESTIONS.flatMap((question) => range(1, question.length - 1).map((at) => question.slice(0, at)));

/** What tmux and screen pass through to the terminal around them. */
const NESTED = QUESTIONS.flatMap((question) => [
  `${ESC}Ptmux;${question.replaceAll(ESC, ESC + ESC)}${ST}`, `${ESC}P${question}${ST}`, `${ESC}]0;${question}\x07`, `${ESC}_${question}${ST}`, `${ESC}^${question}${ST}`, `${ESC}X${question}${ST}`,
  `${ESC}Ptmux;${ESC}${ESC}Ptmux;${question.replaceAll(ESC, ESC.repeat(4))}${ESC}${ESC}\\${ST}`,
]);

/** Every sequence, as it is printed. */
export const QUERIES = [
  ...formed('CSI', CSI), ...formed('OSC', OSC), ...formed('DCS', DCS), ...formed('APC', APC),
  ...[...SINGLE, ...ODD, ...CUT, ...NESTED].map((text) => bytes(text)),
];

/** The whole corpus, each sequence apart from the next. */
export const corpus = () => bytes(...QUERIES.flatMap((query) => [query, CLOSE, ...(SETS.test(query.toString('latin1')) ? [RESTORE] : [])]), RESTORE, SYNC.ask);

/** A generator of 32 bits (mulberry32), the same for the same seed. */
export function generator(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** Random sequences: known ones with bytes changed, and ones put together of what sequences are made of. */
export function randomSequences(count, seed) {
  const next = generator(seed);
  const pick = (list) => list[next(list.length)];
  const some = (most, make) => Array.from({ length: next(most + 1) }, make).join('');
  const parameter = () => pick(['', '0', '1', '2', '6', '25', '1004', '2004', '?', '>', '=', '<', ';', ':', String(next(100_000))]);
  const made = () => bytes(pick(FORMS[pick(['CSI', 'CSI', 'OSC', 'DCS', 'APC'])]), some(6, parameter), some(2, () => pick([' ', '$', '+', '*', '!', '"', "'", '#'])),
    String.fromCharCode(0x40 + next(0x3f)), some(5, () => pick([';', '?', 'q', 'm', String(next(300))])), pick(['', ST, '\x07', '\x18', '\n']));
  const short = QUERIES.filter((query) => query.length < 64);
  const changed = () => {
    const copy = Buffer.from(pick(short));
    copy[next(copy.length)] = next(256);
    return copy;
  };
  return bytes(...Array.from({ length: count }, () => (next(2) === 0 ? made() : changed())), RESTORE, SYNC.ask);
}
