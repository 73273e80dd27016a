// One WebSocket per project: gets a ticket, connects, comes back after a break, and gives each channel its messages.

import { backoffMs } from './backoff';
import { decodeFrame, type Frame } from './frame';
import { LOOK_EVERY_MS, Pulse } from './pulse';
import { parseMessage, type ClientMessage, type ErrorMessage, type ServerMessage } from './message';

export type Link =
  | { at: 'connecting' }
  /** The daemon answers. */
  | { at: 'open' }
  /** Open, and the daemon does not answer. */
  | { at: 'silent' }
  /** Broken; `retryAt` is the epoch time in ms of the next attempt. */
  | { at: 'waiting'; retryAt: number }
  /** No session: trying again is useless until there is one. */
  | { at: 'signed-out' }
  | { at: 'closed' };

/** What a channel hears from the socket. */
export interface Listener {
  opened(): void;
  closed(): void;
  message(message: ServerMessage): void;
  frame?(frame: Frame): void;
  /** The daemon stopped answering, or answers again, on a connection that stands. */
  silence?(silent: boolean): void;
}

/** The part of a WebSocket that is used. */
export interface Wire {
  binaryType: string;
  onopen: (() => void) | null;
  onclose: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(): void;
}

export interface SocketDeps {
  /** Fetches a one-time ticket; null when there is no session. Rejects when the daemon cannot be reached. */
  ticket(): Promise<string | null>;
  open(protocols: string[]): Wire;
  after(ms: number, run: () => void): () => void;
  /** Epoch time in ms. */
  now(): number;
  /** Time in ms that never jumps. */
  uptime(): number;
  /** Whether the page may be seen. */
  visible(): boolean;
  random(): number;
  changed(link: Link): void;
  /** An error that names no channel. */
  refused(error: ErrorMessage): void;
}

/** How long a WebSocket may take to open. */
const DIAL_MS = 5_000;
/** A connection is given up when the daemon answers others and so long still not this one. */
const LAST_CHANCE_MS = 1_500;

export class Socket {
  link: Link = { at: 'closed' };
  #wire: Wire | null = null;
  #attempt = 0;
  #cancelRetry: () => void = () => {};
  #pulse = new Pulse(0);
  #pings = 0;
  readonly #listeners = new Map<string, Listener>();
  /** Which channel a handle stands for: the server's newest word on it. */
  readonly #handles = new Map<number, string>();

  constructor(private readonly deps: SocketDeps) {}

  /** Connects now: at the start, and when there is reason to believe that it works again. */
  connect(): void {
    if (this.link.at === 'connecting' || this.#stands) return;
    this.#cancelRetry();
    this.#enter({ at: 'connecting' });
    this.deps.ticket().then(
      (ticket) => (ticket === null ? this.#signedOut() : this.#dial(ticket)),
      () => this.#retry(),
    );
  }

  close(): void {
    this.#cancelRetry();
    this.#enter({ at: 'closed' });
    this.#drop();
  }

  /**
   * Routes `channel` to `listener`, which subscribes when it hears `opened`; returns the way to end it, which says whether no other listener has taken
   * its place.
   */
  attach(channel: string, listener: Listener): () => boolean {
    this.#listeners.set(channel, listener);
    if (this.#stands) listener.opened();
    if (this.link.at === 'silent') listener.silence?.(true);
    return () => {
      if (this.#listeners.get(channel) !== listener) return false;
      this.#listeners.delete(channel);
      this.send({ type: 'unsubscribe', channel });
      return true;
    };
  }

  send(message: ClientMessage): void {
    if (this.#stands) this.#wire?.send(JSON.stringify(message));
  }

  sendBinary(frame: Uint8Array<ArrayBuffer>): void {
    if (this.#stands) this.#wire?.send(frame);
  }

  /** Looks at once whether the daemon answers. */
  look(): void {
    if (!this.#stands) return;
    const verdict = this.#pulse.look(this.deps.uptime(), this.deps.visible());
    if (verdict === 'ask') this.send({ type: 'ping', id: (this.#pings += 1) });
    if (verdict !== 'silent' || this.link.at !== 'open') return;
    this.#enter({ at: 'silent' });
    this.#silence(true);
    if (this.#wire !== null) this.#probe(this.#wire);
  }

  /** Whether a connection stands, answered or not. */
  get #stands(): boolean {
    return this.link.at === 'open' || this.link.at === 'silent';
  }

  #dial(ticket: string): void {
    if (this.link.at !== 'connecting') return;
    const wire = this.deps.open(['kas.v1', `kas.ticket.${ticket}`]);
    wire.binaryType = 'arraybuffer';
    const cancelDial = this.deps.after(DIAL_MS, () => this.#broken(wire));
    wire.onopen = () => {
      cancelDial();
      this.#opened(wire);
    };
    wire.onmessage = ({ data }) => this.#received(data);
    wire.onclose = () => {
      cancelDial();
      this.#broken(wire);
    };
    this.#wire = wire;
  }

  #opened(wire: Wire): void {
    this.#attempt = 0;
    this.#pulse = new Pulse(this.deps.uptime());
    this.#lookOn(wire);
    this.#handles.clear();
    this.#enter({ at: 'open' });
    for (const listener of [...this.#listeners.values()]) listener.opened();
  }

  #lookOn(wire: Wire): void {
    this.deps.after(LOOK_EVERY_MS, () => {
      if (wire !== this.#wire) return;
      this.look();
      this.#lookOn(wire);
    });
  }

  /** Asks for a ticket beside a silent connection: the answer shows that the daemon lives, and that the connection does not. */
  #probe(wire: Wire): void {
    const stillSilent = (): boolean => wire === this.#wire && this.link.at === 'silent';
    this.deps.ticket().then(
      // A daemon that went on answers what came first, so the connection has its chance.
      () => this.deps.after(LAST_CHANCE_MS, () => stillSilent() && this.#broken(wire)),
      () => this.deps.after(LAST_CHANCE_MS, () => stillSilent() && this.#probe(wire)),
    );
  }

  #silence(silent: boolean): void {
    for (const listener of [...this.#listeners.values()]) listener.silence?.(silent);
  }

  #received(data: unknown): void {
    this.#pulse.heard(this.deps.uptime());
    if (this.link.at === 'silent') {
      this.#enter({ at: 'open' });
      this.#silence(false);
    }
    if (data instanceof ArrayBuffer) {
      const frame = decodeFrame(data);
      const channel = frame && this.#handles.get(frame.handle);
      if (frame && channel !== undefined && channel !== null) this.#listeners.get(channel)?.frame?.(frame);
      return;
    }
    const message = typeof data === 'string' ? parseMessage(data) : null;
    if (message === null) return;
    if (message.type === 'subscribed') this.#name(message.handle, message.channel);
    if (message.type === 'pong') return;
    const channel = message.type === 'event' ? 'events' : message.channel;
    if (channel) this.#listeners.get(channel)?.message(message);
    else if (message.type === 'error') this.deps.refused(message);
  }

  #name(handle: number, channel: string): void {
    for (const [old, name] of this.#handles) if (name === channel) this.#handles.delete(old);
    this.#handles.set(handle, channel);
  }

  #broken(wire: Wire): void {
    if (wire !== this.#wire) return;
    this.#drop();
    this.#retry();
  }

  #retry(): void {
    if (this.link.at === 'closed') return;
    const wait = backoffMs(this.#attempt, this.deps.random(), this.deps.visible());
    this.#attempt += 1;
    this.#enter({ at: 'waiting', retryAt: this.deps.now() + wait });
    this.#cancelRetry = this.deps.after(wait, () => this.connect());
  }

  #signedOut(): void {
    if (this.link.at === 'connecting') this.#enter({ at: 'signed-out' });
  }

  #drop(): void {
    const wire = this.#wire;
    this.#wire = null;
    this.#handles.clear();
    if (wire === null) return;
    wire.onopen = wire.onclose = wire.onmessage = null;
    wire.close();
    for (const listener of [...this.#listeners.values()]) listener.closed();
  }

  #enter(link: Link): void {
    this.link = link;
    this.deps.changed(link);
  }
}
