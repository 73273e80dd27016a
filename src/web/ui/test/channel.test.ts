// The channel's state machine, driven message by message.
import { describe, expect, test } from 'vitest';
import { ACK_BYTES, Channel, type ChannelState, type Size } from '../src/stream/channel';
import { decodeFrame, Kind } from '../src/stream/frame';
import type { ClientMessage, Exit, Subscribed } from '../src/stream/message';
import { FRAME_COST_BYTES, NOTHING_TYPED, PIECE_BYTES, Typing, WAITING_LIMIT_BYTES, WINDOW_BYTES, type TypingState } from '../src/stream/typing';

const NAME = 'pty:task:A';
const COLOURS = { foreground: '#000001', background: '#000002', cursor: '#000003', palette: [] };
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** A channel whose screen, wire and states are written down. */
function setup(size: Size | null = { cols: 80, rows: 24 }, typings = new Typing()) {
  const drawn: string[] = [];
  const sent: ClientMessage[] = [];
  const coloured: ClientMessage[] = [];
  const binary: Uint8Array[] = [];
  const states: ChannelState['at'][] = [];
  const notices: string[] = [];
  let typing: TypingState = NOTHING_TYPED;
  const channel = new Channel(NAME, 'interactive', {
    screen: {
      write: (bytes, end) => drawn.push(`${text(bytes)} @${end}`),
      reset: () => drawn.push('reset'),
      gap: (bytes) => drawn.push(`gap ${bytes}`),
      resize: (cols, rows) => drawn.push(`${cols}x${rows}`),
    },
    send: (message) => (message.type === 'pty.colours' ? coloured : sent).push(message),
    sendBinary: (frame) => binary.push(frame),
    size: () => size,
    colours: () => COLOURS,
    changed: (state) => states.push(state.at),
    typing: (state) => (typing = state),
    notice: (said) => notices.push(said),
  }, typings);
  const take = <T>(list: T[]): T[] => list.splice(0);
  const frame = (kind: Kind, handle: number, offset: number, data: string) =>
    channel.onFrame({ kind, handle, offset, payload: new TextEncoder().encode(data) });
  return {
    channel,
    binary,
    states,
    notices,
    typing: () => typing,
    typed: () => take(binary).map((it) => text(decodeFrame(it.slice().buffer)!.payload)),
    drawn: () => take(drawn),
    sent: () => take(sent),
    coloured: () => take(coloured),
    subscribed: (fields: Partial<Subscribed> = {}) =>
      channel.onSubscribed({ type: 'subscribed', channel: NAME, handle: 1, offset: 0, cols: 80, rows: 24, state: 'running', replay: 'resume', ...fields }),
    output: (offset: number, data: string, handle = 1) => frame(Kind.output, handle, offset, data),
    snapshot: (offset: number, data: string, handle = 1) => frame(Kind.snapshot, handle, offset, data),
    gap: (from: number, to: number) => channel.onGap({ type: 'pty.gap', channel: NAME, from, to, reason: 'evicted' }),
    exit: (offset: number): Exit => {
      const exit: Exit = { type: 'pty.exit', channel: NAME, state: 'done', exit_code: 0, signal: null, offset };
      channel.onExit(exit);
      return exit;
    },
  };
}

/** Subscribed from the start and at its live end, with all that was said so far taken. */
function live() {
  const it = setup();
  it.channel.subscribe();
  it.subscribed();
  it.drawn();
  it.sent();
  return it;
}

describe('the first subscription', () => {
  test('asks without an offset, with the size this page would like', () => {
    const it = setup();
    it.channel.subscribe();
    expect(it.sent()).toEqual([{ type: 'subscribe', channel: NAME, mode: 'interactive', confirm_input: true, cols: 80, rows: 24 }]);
  });

  test('asks for no size where this page has no say', () => {
    const it = setup(null);
    it.channel.subscribe();
    expect(it.sent()).toEqual([{ type: 'subscribe', channel: NAME, mode: 'interactive', confirm_input: true }]);
    it.subscribed();
    expect(it.channel.sizedByOther).toBe(true);
  });

  test('draws what was before and what comes after alike', () => {
    const it = setup();
    it.channel.subscribe();
    it.subscribed({ offset: 5 });
    it.output(0, 'abc');
    it.output(3, 'defgh');
    it.output(8, 'i');
    expect(it.drawn()).toEqual(['80x24', 'abc @3', 'defgh @8', 'i @9']);
  });

  test('tells the colours of the page, and later ones, where this page may type', () => {
    const it = setup();
    it.channel.recoloured();
    it.channel.subscribe();
    expect(it.coloured()).toEqual([]);
    it.subscribed();
    it.channel.recoloured();
    expect(it.coloured()).toEqual(Array(2).fill({ type: 'pty.colours', channel: NAME, ...COLOURS }));
    it.channel.mode = 'view';
    it.channel.recoloured();
    expect(it.coloured()).toEqual([]);
  });

  test('with a snapshot resets the screen, draws it, and goes on from its offset', () => {
    const it = setup();
    it.channel.subscribe();
    it.subscribed({ offset: 900, replay: 'snapshot' });
    it.gap(0, 900);
    it.snapshot(1000, 'SCREEN');
    it.output(1000, 'xy');
    expect(it.drawn()).toEqual(['80x24', 'reset', 'SCREEN @1000', 'xy @1002']);
  });

  test('takes a snapshot of several frames for one, and the next for another', () => {
    const it = setup();
    it.channel.subscribe();
    it.subscribed({ offset: 1000, replay: 'snapshot' });
    it.snapshot(1000, 'FIRST');
    it.snapshot(1000, 'SECOND');
    it.gap(1000, 1000);
    it.snapshot(1000, 'AGAIN');
    expect(it.drawn()).toEqual(['80x24', 'reset', 'FIRST @1000', 'SECOND @1000', 'reset', 'AGAIN @1000']);
  });

  test('to something without bytes starts at the live end', () => {
    const it = setup();
    it.channel.subscribe();
    it.subscribed({ offset: 40, replay: 'none' });
    it.output(40, 'a');
    expect(it.drawn()).toEqual(['80x24', 'a @41']);
  });

  test('that is refused says why and does not ask again', () => {
    const it = setup();
    it.channel.subscribe();
    it.channel.onError({ type: 'error', code: 'not_found', message: 'no such run', channel: NAME, request: 'subscribe' });
    expect(it.channel.state).toEqual({ at: 'refused', message: 'no such run' });
    it.sent();
    it.channel.subscribe();
    expect(it.sent()).toEqual([]);
  });
});

describe('errors', () => {
  const error = (code: string, request?: string) => ({ type: 'error', code, message: `${code}!`, channel: NAME, ...(request ? { request } : {}) }) as const;

  test('of a living terminal are shown, but not that it has ended', () => {
    const it = live();
    it.channel.onError(error('rate_limited'));
    it.channel.onError(error('conflict'));
    expect(it.notices).toEqual(['rate_limited!']);
    expect(it.channel.state.at).toBe('live');
  });

  test('where typing is forbidden make it a view', () => {
    const it = setup();
    it.channel.subscribe();
    it.sent();
    it.channel.onError(error('forbidden', 'subscribe'));
    expect(it.sent()).toMatchObject([{ type: 'subscribe', mode: 'view' }]);
    it.subscribed();
    it.channel.input(new Uint8Array(1));
    expect([it.binary, it.typing()]).toEqual([[], NOTHING_TYPED]);
    it.channel.disconnected();
    it.channel.subscribe();
    it.channel.onError(error('forbidden', 'subscribe'));
    expect(it.channel.state.at).toBe('refused');
  });

  test('of earlier frames do not end a channel that subscribes anew, nor make it a view, nor start it over', () => {
    const it = live();
    it.output(0, 'hello');
    it.output(100, 'damaged');
    expect(it.channel.state.at).toBe('subscribing');
    it.sent();
    it.drawn();
    const earlier = ['conflict', 'unavailable', 'invalid_request', 'forbidden', 'not_found'];
    for (const code of earlier) for (const request of [undefined, 'pty.resize', 'pty.colours', 'pty.ack']) it.channel.onError(error(code, request));
    expect([it.channel.state.at, it.channel.mode, it.sent(), it.drawn()]).toEqual(['subscribing', 'interactive', [], []]);
    it.subscribed({ handle: 2, offset: 5 });
    expect(it.channel.state).toEqual({ at: 'live', handle: 2 });
    expect(it.notices).toContain('unavailable!');
  });
});

describe('coming back', () => {
  test('asks from the next byte and draws on without a reset', () => {
    const it = live();
    it.output(0, 'hello');
    it.channel.disconnected();
    expect(it.channel.state.at).toBe('detached');
    it.drawn();
    it.channel.subscribe();
    expect(it.sent()).toMatchObject([{ type: 'subscribe', from: 5 }]);
    it.subscribed({ handle: 2, offset: 11 });
    it.output(5, ' world', 2);
    it.output(11, '!', 2);
    expect(it.drawn()).toEqual(['80x24', ' world @11', '! @12']);
  });

  test('starts over when the server does not have that many bytes', () => {
    const it = live();
    it.output(0, 'hello');
    it.channel.disconnected();
    it.channel.subscribe();
    it.sent();
    it.drawn();
    it.channel.onError({ type: 'error', code: 'invalid_request', message: 'beyond the end', channel: NAME, request: 'subscribe' });
    expect(it.drawn()).toEqual(['reset']);
    expect(it.sent()).toEqual([{ type: 'subscribe', channel: NAME, mode: 'interactive', confirm_input: true, cols: 80, rows: 24 }]);
    it.subscribed({ handle: 2, offset: 2 });
    it.output(0, 'he', 2);
    expect(it.drawn()).toEqual(['80x24', 'he @2']);
  });

  test('after the end stays at the end', () => {
    const it = live();
    it.output(0, 'x');
    it.exit(1);
    it.channel.disconnected();
    it.channel.subscribe();
    expect(it.sent()).toEqual([]);
    expect(it.channel.state.at).toBe('ended');
  });
});

describe('frames', () => {
  test('of an old handle are dropped', () => {
    const it = live();
    it.output(0, 'a');
    it.channel.disconnected();
    it.channel.subscribe();
    it.output(1, 'between', 1);
    it.subscribed({ handle: 2, offset: 1 });
    it.drawn();
    it.output(1, 'stale', 1);
    it.output(1, 'b', 2);
    expect(it.drawn()).toEqual(['b @2']);
  });

  test.each([
    ['later', 7],
    ['earlier', 2],
  ])('that go on at an %s byte are not drawn, and the rest is asked for again', (_, offset) => {
    const it = live();
    it.output(0, 'abcde');
    it.drawn();
    it.output(offset, 'zz');
    expect(it.drawn()).toEqual([]);
    expect(it.sent()).toMatchObject([{ type: 'subscribe', from: 5 }]);
  });

  test('that stay damaged end in words, not in asking for ever', () => {
    const it = live();
    for (let handle = 1; handle <= 4; handle += 1) {
      it.output(100, 'zz', handle);
      it.subscribed({ handle: handle + 1 });
    }
    expect(it.channel.state.at).toBe('refused');
    expect(it.sent().map((message) => message.type)).toEqual(['subscribe', 'subscribe', 'subscribe', 'unsubscribe']);
  });

  test('that are good again forgive earlier damage', () => {
    const it = live();
    for (let round = 0; round < 10; round += 1) {
      const at = round;
      it.output(at, 'x', round + 1);
      it.output(at + 50, 'zz', round + 1);
      it.subscribed({ handle: round + 2, offset: at + 1 });
    }
    expect(it.channel.state.at).toBe('live');
  });
});

describe('a gap', () => {
  test('followed by a snapshot shows the snapshot', () => {
    const it = live();
    it.output(0, 'ab');
    it.gap(2, 500);
    it.snapshot(640, 'S');
    it.output(640, 'c');
    expect(it.drawn()).toEqual(['ab @2', 'reset', 'S @640', 'c @641']);
  });

  test('followed by bytes is said in the terminal', () => {
    const it = live();
    it.gap(0, 500);
    it.output(500, 'tail');
    it.exit(504);
    expect(it.drawn()).toEqual(['gap 500', 'tail @504']);
    expect(it.channel.state.at).toBe('ended');
  });

  test('followed by the end is said, too', () => {
    const it = live();
    it.output(0, 'a');
    it.drawn();
    it.gap(1, 9);
    it.exit(9);
    expect(it.drawn()).toEqual(['gap 8']);
    expect(it.channel.state.at).toBe('ended');
  });

  test('where a snapshot was promised and only bytes came goes on with the bytes', () => {
    const it = setup();
    it.channel.subscribe();
    it.subscribed({ offset: 30, replay: 'snapshot' });
    it.gap(0, 20);
    it.output(20, '0123456789');
    expect(it.drawn()).toEqual(['80x24', 'gap 20', '0123456789 @30']);
  });
});

describe('the end', () => {
  test('is reported with what it came to', () => {
    const it = live();
    it.output(0, 'bye');
    const exit = it.exit(3);
    expect(it.channel.state).toEqual({ at: 'ended', exit });
  });

  test('before the last byte is damage', () => {
    const it = live();
    it.output(0, 'by');
    it.exit(3);
    expect(it.sent()).toMatchObject([{ type: 'subscribe', from: 2 }]);
    expect(it.channel.state.at).toBe('subscribing');
  });
});

describe('acknowledgements', () => {
  test('are sent each 5 000 bytes while busy, and for the rest when idle', () => {
    const it = live();
    it.channel.rendered(ACK_BYTES - 1, false);
    expect(it.sent()).toEqual([]);
    it.channel.rendered(ACK_BYTES, false);
    expect(it.sent()).toEqual([{ type: 'pty.ack', channel: NAME, offset: ACK_BYTES }]);
    it.channel.rendered(ACK_BYTES + 10, false);
    it.channel.rendered(ACK_BYTES + 12, true);
    expect(it.sent()).toEqual([{ type: 'pty.ack', channel: NAME, offset: ACK_BYTES + 12 }]);
    it.channel.rendered(ACK_BYTES + 12, true);
    expect(it.sent()).toEqual([]);
  });

  test('are sent for a snapshot that nothing follows', () => {
    const it = setup();
    it.channel.subscribe();
    it.subscribed({ offset: 70_000, replay: 'snapshot' });
    it.snapshot(70_000, 'S');
    it.sent();
    it.channel.rendered(70_000, true);
    expect(it.sent()).toEqual([{ type: 'pty.ack', channel: NAME, offset: 70_000 }]);
  });

  test('are not sent while detached, and made up for afterwards', () => {
    const it = live();
    it.output(0, 'abc');
    it.channel.disconnected();
    it.channel.rendered(3, true);
    expect(it.sent()).toEqual([]);
    it.channel.subscribe();
    it.subscribed({ handle: 2, offset: 3 });
    it.sent();
    it.output(3, 'd', 2);
    it.channel.rendered(4, true);
    expect(it.sent()).toEqual([{ type: 'pty.ack', channel: NAME, offset: 4 }]);
  });
});

describe('input', () => {
  const typed = new TextEncoder().encode('ls\r');

  test('goes out under the newest handle', () => {
    const it = live();
    it.channel.disconnected();
    it.channel.subscribe();
    it.subscribed({ handle: 9 });
    expect(it.channel.input(typed)).toBe(true);
    const frame = decodeFrame(it.binary[0]!.slice().buffer)!;
    expect([frame.kind, frame.handle, text(frame.payload)]).toEqual([Kind.input, 9, 'ls\r']);
  });

  test('waits for the stream to begin, is kept while there is none, and after the end is nothing', () => {
    const it = setup();
    it.channel.subscribe();
    it.channel.input(typed);
    expect([it.typed(), it.typing().waiting]).toEqual([[], 3]);
    it.subscribed();
    expect([it.typed(), it.typing().flying]).toEqual([['ls\r'], 3]);
    it.channel.onInputTaken(3);
    it.channel.disconnected();
    it.channel.input(typed);
    expect([it.typed(), it.typing().held]).toEqual([[], { keys: 1, bytes: 3, unsure: 0, preview: 'ls⏎' }]);
    it.channel.subscribe();
    it.subscribed();
    expect([it.typed(), it.typing().held?.keys]).toEqual([[], 1]);
    it.channel.typing.sendHeld();
    expect([it.typed(), it.typing()]).toEqual([['ls\r'], { flying: 3, waiting: 0, held: null }]);
    it.exit(0);
    it.channel.input(typed);
    expect([it.typed(), it.typing()]).toEqual([[], NOTHING_TYPED]);
  });

  test('is kept while the daemon does not answer, and what was on its way stays there', () => {
    const it = live();
    it.channel.input(typed);
    it.channel.silence(true);
    expect(it.channel.takesInput).toBe(false);
    it.channel.input(typed);
    expect([it.typed(), it.typing().flying, it.typing().held]).toMatchObject([['ls\r'], 3, { keys: 1, unsure: 0 }]);
    it.channel.silence(false);
    expect([it.channel.takesInput, it.typed()]).toEqual([true, []]);
    it.channel.onInputTaken(3);
    expect(it.typing()).toMatchObject({ flying: 0, held: { keys: 1 } });
  });

  test('that was on its way when the connection broke may have arrived, and is not sent again by itself', () => {
    const it = live();
    it.channel.input(typed);
    it.channel.disconnected();
    it.channel.subscribe();
    it.subscribed();
    expect([it.typed(), it.typing().held]).toMatchObject([['ls\r'], { keys: 1, bytes: 3, unsure: 3 }]);
    it.channel.typing.dropHeld();
    expect([it.typed(), it.typing()]).toEqual([[], NOTHING_TYPED]);
  });

  test('is kept in the order in which it was typed', () => {
    const it = live();
    const type = (data: string): boolean => it.channel.input(new TextEncoder().encode(data));
    it.channel.silence(true);
    type('1');
    it.channel.silence(false);
    type('2');
    it.channel.silence(true);
    type('3');
    it.channel.disconnected();
    type('4');
    it.channel.subscribe();
    it.subscribed();
    type('5');
    it.channel.disconnected();
    expect(it.typing().held).toEqual({ keys: 5, bytes: 5, unsure: 2, preview: '12345' });
  });

  test('that was refused is kept, up to what was accepted, and the channel begins anew, once', () => {
    const it = live();
    for (const part of ['one ', 'two ', 'three']) it.channel.input(new TextEncoder().encode(part));
    it.typed();
    it.sent();
    const refused = (reason: string, accepted?: number): void =>
      it.channel.onError({ type: 'error', code: 'rate_limited', message: 'full', channel: NAME, details: { reason, ...(accepted === undefined ? {} : { accepted }) } });
    refused('input_full', 4);
    refused('input_closed');
    expect(it.sent()).toMatchObject([{ type: 'subscribe', confirm_input: true }]);
    it.subscribed({ handle: 2 });
    expect(it.typing()).toMatchObject({ flying: 4, waiting: 0, held: { bytes: 9, unsure: 0, preview: 'two three' } });
    expect(it.notices).toEqual(['full']);
  });
});

test.each([['input_full', 4, 4, 'two ', 0], ['input_lost', undefined, 0, 'one two ', 8]])(
  'what is %s while a new subscription is under way is kept as not sent',
  (reason, accepted, flying, preview, unsure) => {
    const it = live();
    for (const part of ['one ', 'two ']) it.channel.input(new TextEncoder().encode(part));
    it.output(100, 'damaged');
    it.sent();
    const details = { reason, ...(accepted === undefined ? {} : { accepted }) };
    it.channel.onError({ type: 'error', code: 'unavailable', message: 'no', channel: NAME, details });
    expect([it.channel.state.at, it.sent()]).toEqual(['subscribing', []]);
    it.subscribed({ handle: 2 });
    expect(it.typing()).toMatchObject({ flying, waiting: 0, held: { preview, unsure } });
  },
);

describe('a view that is left', () => {
  const bytes = (data: string): Uint8Array => new TextEncoder().encode(data);
  const settle = (): Promise<void> => new Promise((done) => setTimeout(done));

  test('lets what was typed go on, draws nothing, and is over when all is taken', async () => {
    const it = live();
    const paste = 'x'.repeat(2 * WINDOW_BYTES);
    it.channel.input(bytes(paste));
    let over = 0;
    it.channel.outlive(() => (over += 1));
    await settle();
    it.output(0, 'unseen');
    expect([it.drawn(), it.sent(), over]).toEqual([[], [{ type: 'pty.ack', channel: NAME, offset: 6 }], 0]);
    let got = '';
    for (let round = 0; over === 0 && round < 100; round += 1) {
      got += it.typed().join('');
      it.channel.onInputTaken(PIECE_BYTES);
    }
    expect([got === paste, over]).toEqual([true, 1]);
  });

  test.each([['the connection breaks', true], ['the program ends', false]])('is over when %s, and tells what it keeps', async (_, kept) => {
    const it = live();
    it.channel.input(bytes('typed'));
    const held: unknown[] = [];
    it.channel.outlive((what) => held.push(what));
    await settle();
    expect(held).toEqual([]);
    if (kept) it.channel.disconnected();
    else it.exit(0);
    expect(held).toEqual([kept ? { keys: 1, bytes: 5, unsure: 5, preview: 'typed' } : null]);
  });

  test('gives what it keeps, and what is on its way, to the next view of its terminal', async () => {
    const typing = new Typing();
    const first = setup(null, typing);
    first.channel.subscribe();
    first.subscribed();
    first.channel.input(bytes('a'));
    first.channel.silence(true);
    first.channel.input(bytes('b'));
    let over = 0;
    first.channel.outlive(() => (over += 1));
    const next = setup(null, typing);
    next.channel.subscribe();
    await settle();
    next.subscribed({ handle: 2 });
    expect(next.typing()).toMatchObject({ flying: 1, held: { preview: 'b' } });
    next.channel.onInputTaken(1);
    next.channel.typing.sendHeld();
    expect([first.typed(), next.typed(), over]).toEqual([['a'], ['b'], 0]);
  });
});

describe('a paste', () => {
  test('goes no faster than it is taken, in order, once, and other typing waits behind it', () => {
    const it = live();
    const paste = new TextEncoder().encode('line of what is pasted, each unlike\n'.repeat(20_000));
    it.channel.input(paste);
    it.channel.input(new TextEncoder().encode('!'));
    let got = '';
    let steps = 0;
    while (it.typing().flying > 0) {
      const frames = it.typed();
      expect(frames.every((frame) => frame.length <= PIECE_BYTES)).toBe(true);
      expect(it.typing().flying).toBeLessThan(WINDOW_BYTES + PIECE_BYTES);
      got += frames.join('');
      it.channel.onInputTaken(Math.min(it.typing().flying, 10_000 + steps));
      steps += 1;
    }
    expect(got).toBe(`${text(paste)}!`);
    expect(steps).toBeGreaterThan(50);
  });

  test('that is too much is not taken at all, and what waits can be dropped', () => {
    const it = live();
    it.channel.input(new Uint8Array(WINDOW_BYTES));
    expect(it.channel.input(new Uint8Array(WAITING_LIMIT_BYTES))).toBe(true);
    expect(it.channel.input(new Uint8Array(1))).toBe(false);
    expect(it.typing().waiting).toBe(WAITING_LIMIT_BYTES);
    it.channel.typing.dropWaiting();
    expect(it.typing()).toEqual({ flying: WINDOW_BYTES, waiting: 0, held: null });
  });

  test('is counted with what each frame costs the daemon', () => {
    const it = live();
    for (let key = 0; key < 3_000; key += 1) it.channel.input(new Uint8Array(1));
    expect(it.typing().flying).toBe(Math.ceil(WINDOW_BYTES / (1 + FRAME_COST_BYTES)));
    it.channel.onInputTaken(1);
    expect(it.binary.length).toBe(Math.ceil(WINDOW_BYTES / (1 + FRAME_COST_BYTES)) + 1);
  });

  const END = '\x1b[201~';
  const bracketed = (length: number): Uint8Array => new TextEncoder().encode(`\x1b[200~${'p'.repeat(length)}${END}`);

  test('whose rest is dropped is ended all the same, if it was begun', () => {
    const it = live();
    it.channel.input(bracketed(2 * WINDOW_BYTES));
    it.channel.input(bracketed(100));
    it.typed();
    it.channel.typing.dropWaiting();
    expect(it.typing().waiting).toBe(END.length);
    it.channel.onInputTaken(WINDOW_BYTES);
    expect(it.typed()).toEqual([END]);

    it.channel.input(new Uint8Array(WINDOW_BYTES));
    it.channel.input(bracketed(100));
    it.channel.typing.dropWaiting();
    expect(it.typing().waiting).toBe(0);
  });

  test('whose end is cut in two is ended with what is left of it', () => {
    const it = live();
    it.channel.input(bracketed(4 * PIECE_BYTES - END.length - 2));
    expect(it.typed().join('').endsWith('p\x1b[')).toBe(true);
    it.channel.typing.dropWaiting();
    it.channel.onInputTaken(WINDOW_BYTES);
    expect(it.typed()).toEqual(['201~']);
  });

  test('that was refused and is dropped is ended, if a part of it was accepted', () => {
    for (const accepted of [PIECE_BYTES, 0]) {
      const it = live();
      it.channel.input(bracketed(2 * WINDOW_BYTES));
      it.typed();
      it.channel.onError({ type: 'error', code: 'rate_limited', message: 'full', channel: NAME, details: { reason: 'input_full', accepted } });
      it.subscribed({ handle: 2 });
      it.channel.typing.dropHeld();
      expect(it.typed()).toEqual(accepted === 0 ? [] : [END]);
      expect(it.typing().held).toBe(null);
    }
  });
});

describe('size', () => {
  test('of another viewer is drawn and is not this page’s', () => {
    const it = live();
    expect(it.channel.sizedByOther).toBe(false);
    it.channel.onSize({ type: 'pty.size', channel: NAME, cols: 132, rows: 50 });
    expect(it.drawn()).toEqual(['132x50']);
    expect(it.channel.sizedByOther).toBe(true);
    it.channel.resize({ cols: 90, rows: 30 });
    expect(it.drawn()).toEqual(['90x30']);
    expect(it.sent()).toEqual([{ type: 'pty.resize', channel: NAME, cols: 90, rows: 30 }]);
    expect(it.channel.sizedByOther).toBe(false);
  });

  test('that comes back as wished stays this page’s', () => {
    const it = live();
    it.channel.resize({ cols: 90, rows: 30 });
    it.channel.onSize({ type: 'pty.size', channel: NAME, cols: 90, rows: 30 });
    expect(it.channel.sizedByOther).toBe(false);
  });
});
