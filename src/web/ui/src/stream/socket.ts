// One WebSocket per project: gets a ticket, connects, comes back after a break, and gives each channel its messages.

import { backoffMs } from './backoff';
import { decodeFrame, type Frame } from './frame';
import { parseMessage, type ClientMessage, type ErrorMessage, type ServerMessage } from './message';

export type Link =
  | { at: 'connecting' }
  | { at: 'open' }
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
}

/** The part of a WebSocket that is used. */
export interface Wire {
  binaryType: string;
  readonly bufferedAmount: number;
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
  now(): number;
  random(): number;
  changed(link: Link): void;
  /** An error that names no channel: a binary frame of input was not taken. */
  refused(error: ErrorMessage): void;
}

/** Bytes not yet on the wire after which no more input is taken, so that a paste into a dead link stays bounded. */
export const BUFFER_LIMIT_BYTES = 4 * 1024 * 1024;

export class Socket {
  link: Link = { at: 'closed' };
  #wire: Wire | null = null;
  #attempt = 0;
  #cancelRetry: () => void = () => {};
  readonly #listeners = new Map<string, Listener>();
  /** Which channel a handle stands for: the server's newest word on it. */
  readonly #handles = new Map<number, string>();

  constructor(private readonly deps: SocketDeps) {}

  /** Connects now: at the start, and when there is reason to believe that it works again. */
  connect(): void {
    if (this.link.at === 'connecting' || this.link.at === 'open') return;
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

  /** Routes `channel` to `listener`, which subscribes when it hears `opened`; returns the way to end it. */
  attach(channel: string, listener: Listener): () => void {
    this.#listeners.set(channel, listener);
    if (this.link.at === 'open') listener.opened();
    return () => {
      if (this.#listeners.get(channel) !== listener) return;
      this.#listeners.delete(channel);
      this.send({ type: 'unsubscribe', channel });
    };
  }

  send(message: ClientMessage): void {
    if (this.link.at === 'open') this.#wire?.send(JSON.stringify(message));
  }

  sendBinary(frame: Uint8Array<ArrayBuffer>): void {
    if (this.link.at === 'open') this.#wire?.send(frame);
  }

  /** Whether `bytes` more can wait for the wire. */
  hasRoom(bytes: number): boolean {
    return (this.#wire?.bufferedAmount ?? 0) + bytes <= BUFFER_LIMIT_BYTES;
  }

  #dial(ticket: string): void {
    if (this.link.at !== 'connecting') return;
    const wire = this.deps.open(['kas.v1', `kas.ticket.${ticket}`]);
    wire.binaryType = 'arraybuffer';
    wire.onopen = () => this.#opened();
    wire.onmessage = ({ data }) => this.#received(data);
    wire.onclose = () => this.#broken(wire);
    this.#wire = wire;
  }

  #opened(): void {
    this.#attempt = 0;
    this.#handles.clear();
    this.#enter({ at: 'open' });
    for (const listener of [...this.#listeners.values()]) listener.opened();
  }

  #received(data: unknown): void {
    if (data instanceof ArrayBuffer) {
      const frame = decodeFrame(data);
      const channel = frame && this.#handles.get(frame.handle);
      if (frame && channel !== undefined && channel !== null) this.#listeners.get(channel)?.frame?.(frame);
      return;
    }
    const message = typeof data === 'string' ? parseMessage(data) : null;
    if (message === null) return;
    if (message.type === 'subscribed') this.#name(message.handle, message.channel);
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
    const wait = backoffMs(this.#attempt, this.deps.random());
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
