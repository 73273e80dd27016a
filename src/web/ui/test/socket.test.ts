// The socket: tickets, routing by handle, and coming back.
import { describe, expect, test } from 'vitest';
import { backoffMs } from '../src/stream/backoff';
import { encodeFrame, Kind } from '../src/stream/frame';
import { ASK_AFTER_MS, LOOK_EVERY_MS, Pulse, SILENT_AFTER_MS } from '../src/stream/pulse';
import { Socket, type Link, type Listener, type Wire } from '../src/stream/socket';

class FakeWire implements Wire {
  binaryType = '';
  onopen: (() => void) | null = null;
  onclose: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  sent: unknown[] = [];
  isClosed = false;
  send(data: string | Uint8Array): void {
    this.sent.push(typeof data === 'string' ? JSON.parse(data) : data);
  }
  close(): void {
    this.isClosed = true;
  }
  says(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

function setup(tickets: (string | null | Error)[] = []) {
  const time = { now: 0, visible: true };
  const wires: FakeWire[] = [];
  const protocols: string[][] = [];
  const links: Link[] = [];
  const refused: string[] = [];
  const timers: { ms: number; run: () => void }[] = [];
  let asked = 0;
  const socket = new Socket({
    ticket: async () => {
      const next = tickets[asked++];
      if (next instanceof Error) throw next;
      return next === undefined ? `T${asked}` : next;
    },
    open: (offered) => {
      protocols.push(offered);
      const wire = new FakeWire();
      wires.push(wire);
      return wire;
    },
    after: (ms, run) => {
      const timer = { ms, run };
      timers.push(timer);
      return () => void (timers.includes(timer) && timers.splice(timers.indexOf(timer), 1));
    },
    now: () => 1000,
    uptime: () => time.now,
    visible: () => time.visible,
    random: () => 1,
    changed: (link) => links.push(link),
    refused: (error) => refused.push(error.message),
  });
  /** Lets time pass: looks come when they are due. */
  const pass = (ms: number): void => {
    for (const end = time.now + ms; time.now < end; ) {
      time.now += LOOK_EVERY_MS;
      const due = timers.filter((timer) => timer.ms === LOOK_EVERY_MS);
      due.forEach((timer) => (timers.splice(timers.indexOf(timer), 1), timer.run()));
    }
  };
  return { socket, wires, protocols, links, timers, refused, time, pass };
}

/** Lets promises that are due run. */
const settle = (): Promise<void> => new Promise((done) => setTimeout(done));

function listener() {
  const heard: string[] = [];
  const it: Listener = {
    opened: () => heard.push('opened'),
    closed: () => heard.push('closed'),
    message: (message) => heard.push(message.type),
    frame: (frame) => heard.push(`frame ${frame.handle} ${frame.payload.length}`),
    silence: (silent) => heard.push(silent ? 'silent' : 'answers'),
  };
  return { it, heard };
}

async function open(it: ReturnType<typeof setup>): Promise<FakeWire> {
  it.socket.connect();
  await settle();
  const wire = it.wires.at(-1)!;
  wire.onopen?.();
  return wire;
}

const subscribed = (channel: string, handle: number) => ({
  type: 'subscribed', channel, handle, offset: 0, cols: 80, rows: 24, state: 'running', replay: 'resume',
});
const output = (handle: number, length: number) => ({ data: encodeFrame({ kind: Kind.output, handle, offset: 0, payload: new Uint8Array(length) }).buffer });

describe('socket', () => {
  test('offers the protocol and the ticket', async () => {
    const it = setup(['secret']);
    const wire = await open(it);
    expect(it.protocols).toEqual([['kas.v1', 'kas.ticket.secret']]);
    expect(wire.binaryType).toBe('arraybuffer');
    expect(it.socket.link).toEqual({ at: 'open' });
  });

  test('tells listeners when it opens, also those that come later', async () => {
    const it = setup();
    const early = listener();
    const late = listener();
    it.socket.attach('events', early.it);
    await open(it);
    it.socket.attach('pty:task:A', late.it);
    expect([early.heard, late.heard]).toEqual([['opened'], ['opened']]);
  });

  test('tells a listener that comes while the daemon does not answer, and one that leaves whether another has its place', async () => {
    const it = setup();
    await open(it);
    it.pass(SILENT_AFTER_MS + LOOK_EVERY_MS);
    const [first, second] = [listener(), listener()];
    const leaveFirst = it.socket.attach('pty:task:A', first.it);
    const leaveSecond = it.socket.attach('pty:task:A', second.it);
    expect([first.heard, second.heard]).toEqual([['opened', 'silent'], ['opened', 'silent']]);
    expect([leaveFirst(), leaveSecond(), leaveSecond()]).toEqual([false, true, false]);
  });

  test('gives each channel its own messages and frames', async () => {
    const it = setup();
    const a = listener();
    const b = listener();
    const events = listener();
    it.socket.attach('pty:task:A', a.it);
    it.socket.attach('pty:task:B', b.it);
    it.socket.attach('events', events.it);
    const wire = await open(it);
    wire.says(subscribed('pty:task:A', 1));
    wire.says(subscribed('pty:task:B', 2));
    wire.onmessage?.(output(2, 3));
    wire.onmessage?.(output(1, 4));
    wire.onmessage?.(output(77, 5));
    wire.says({ type: 'event', id: 1, event: 'task.exited' });
    wire.says({ type: 'something.new', channel: 'pty:task:A' });
    wire.onmessage?.({ data: 'not json' });
    expect(a.heard).toEqual(['opened', 'subscribed', 'frame 1 4']);
    expect(b.heard).toEqual(['opened', 'subscribed', 'frame 2 3']);
    expect(events.heard).toEqual(['opened', 'event']);
  });

  test('tells of errors that name no channel', async () => {
    const it = setup();
    const a = listener();
    it.socket.attach('pty:task:A', a.it);
    const wire = await open(it);
    wire.says({ type: 'error', code: 'rate_limited', message: 'full', channel: null });
    wire.says({ type: 'error', code: 'not_found', message: 'gone', channel: 'pty:task:A' });
    expect([it.refused, a.heard]).toEqual([['full'], ['opened', 'error']]);
  });

  test('forgets a channel’s old handle', async () => {
    const it = setup();
    const a = listener();
    it.socket.attach('pty:task:A', a.it);
    const wire = await open(it);
    wire.says(subscribed('pty:task:A', 1));
    wire.says(subscribed('pty:task:A', 2));
    wire.onmessage?.(output(1, 9));
    wire.onmessage?.(output(2, 1));
    expect(a.heard).toEqual(['opened', 'subscribed', 'subscribed', 'frame 2 1']);
  });

  test('ends a subscription when its listener leaves', async () => {
    const it = setup();
    const leave = it.socket.attach('pty:task:A', listener().it);
    const wire = await open(it);
    leave();
    leave();
    expect(wire.sent).toEqual([{ type: 'unsubscribe', channel: 'pty:task:A' }]);
  });

  test('comes back after a break, with a new ticket, and opens its channels again', async () => {
    const it = setup();
    const a = listener();
    it.socket.attach('pty:task:A', a.it);
    const first = await open(it);
    first.onclose?.();
    expect(a.heard).toEqual(['opened', 'closed']);
    expect(it.socket.link).toEqual({ at: 'waiting', retryAt: 1250 });
    it.timers.find((timer) => timer.ms === 250)!.run();
    await settle();
    it.wires[1]!.onopen?.();
    expect(it.protocols[1]).toEqual(['kas.v1', 'kas.ticket.T2']);
    expect(a.heard).toEqual(['opened', 'closed', 'opened']);
  });

  test('waits longer each time the daemon cannot be reached, and starts over once it can', async () => {
    const it = setup([new Error('down'), new Error('down'), new Error('down')]);
    it.socket.connect();
    const waits = [];
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await settle();
      const timer = it.timers.pop()!;
      waits.push(timer.ms);
      timer.run();
    }
    await settle();
    it.wires[0]!.onopen?.();
    it.wires[0]!.onclose?.();
    waits.push(it.timers.pop()!.ms);
    expect(waits).toEqual([250, 500, 1000, 250]);
  });

  test('does not try without a session, until told to', async () => {
    const it = setup([null]);
    it.socket.connect();
    await settle();
    expect(it.socket.link).toEqual({ at: 'signed-out' });
    expect(it.timers).toEqual([]);
    await open(it);
    expect(it.socket.link).toEqual({ at: 'open' });
  });

  test('sends nothing while it is not open', async () => {
    const it = setup();
    const wire = await open(it);
    wire.onclose?.();
    it.socket.send({ type: 'unsubscribe', channel: 'x' });
    it.socket.sendBinary(new Uint8Array(1));
    expect(wire.sent).toEqual([]);
  });

  test('stays closed once closed', async () => {
    const it = setup();
    const a = listener();
    it.socket.attach('pty:task:A', a.it);
    const wire = await open(it);
    it.socket.close();
    wire.onclose?.();
    it.pass(LOOK_EVERY_MS);
    expect([it.socket.link.at, wire.isClosed, it.timers.length, wire.sent]).toEqual(['closed', true, 0, []]);
    expect(a.heard).toEqual(['opened', 'closed']);
  });

  test('closed while it waits for a ticket does not dial', async () => {
    const it = setup();
    it.socket.connect();
    it.socket.close();
    await settle();
    expect(it.wires).toEqual([]);
  });

  test('that opens too slowly is tried again', async () => {
    const it = setup();
    it.socket.connect();
    await settle();
    it.timers.find((timer) => timer.ms === 5_000)!.run();
    expect([it.socket.link.at, it.wires[0]!.isClosed]).toEqual(['waiting', true]);
  });
});

describe('a daemon that hangs', () => {
  test('is asked after three seconds, told of after six, and found again by its first word', async () => {
    const it = setup();
    const a = listener();
    it.socket.attach('pty:task:A', a.it);
    const wire = await open(it);
    it.pass(ASK_AFTER_MS - LOOK_EVERY_MS);
    expect(wire.sent).toEqual([]);
    it.pass(LOOK_EVERY_MS);
    expect(wire.sent).toEqual([{ type: 'ping', id: 1 }]);
    wire.says({ type: 'pong', id: 1 });
    it.pass(SILENT_AFTER_MS - LOOK_EVERY_MS);
    expect([it.socket.link.at, wire.sent.length]).toEqual(['open', 2]);
    it.pass(LOOK_EVERY_MS);
    expect([it.socket.link.at, wire.isClosed]).toEqual(['silent', false]);
    wire.says({ type: 'pong', id: 2 });
    expect(it.socket.link.at).toBe('open');
    expect(a.heard).toEqual(['opened', 'silent', 'answers']);
  });

  test('that still breaks is connected to again, and a connection that died alone is replaced', async () => {
    const it = setup(['T1', new Error('no answer'), 'T3', 'T4']);
    const first = await open(it);
    it.pass(SILENT_AFTER_MS);
    await settle();
    const due = (): void => it.timers.splice(it.timers.findIndex((timer) => timer.ms === 1_500), 1)[0]!.run();
    due(); // no ticket: it hangs, and is asked again
    await settle();
    expect([it.socket.link.at, first.isClosed]).toEqual(['silent', false]);
    due(); // a ticket, and still no word here
    expect([it.socket.link.at, first.isClosed]).toEqual(['waiting', true]);
  });
});

describe('the pulse', () => {
  test('takes nothing for silence that was not looked at', () => {
    const pulse = new Pulse(0);
    expect(pulse.look(500, true)).toBe('fine');
    expect(pulse.look(60_000, true)).toBe('ask'); // the machine slept
    expect(pulse.look(60_500, true)).toBe('fine');
    pulse.heard(60_600);
    for (let at = 61_000; at < 90_000; at += 1_000) expect(pulse.look(at, false)).toBe('fine');
    expect(pulse.look(90_000, true)).toBe('fine');
    expect(pulse.look(92_000, true)).toBe('ask');
    expect(pulse.look(93_500, true)).toBe('fine');
    expect(pulse.look(95_000, true)).toBe('silent');
  });
});

describe('backoff', () => {
  test('doubles to a limit, and draws only half of itself', () => {
    expect([0, 1, 2, 5, 6, 1000].map((attempt) => backoffMs(attempt, 1, false))).toEqual([250, 500, 1000, 8000, 10_000, 10_000]);
    expect([0, 1, 6].map((attempt) => backoffMs(attempt, 0, false))).toEqual([125, 250, 5000]);
  });

  test('is short while somebody looks', () => {
    expect([0, 1, 2, 3, 1000].map((attempt) => backoffMs(attempt, 1, true))).toEqual([250, 500, 1000, 1500, 1500]);
  });
});
