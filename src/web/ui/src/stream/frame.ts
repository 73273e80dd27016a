// The binary frame of the socket: u8 kind, u32 handle, u64 offset, payload; big endian.

export const Kind = { output: 1, snapshot: 2, input: 3 } as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

export interface Frame {
  kind: Kind;
  handle: number;
  /** Offset of the payload's first byte (output), or of the moment the dump shows (snapshot). */
  offset: number;
  payload: Uint8Array;
}

export const HEADER_BYTES = 13;
/** The largest binary frame either side may send, header included. */
export const FRAME_LIMIT_BYTES = 64 * 1024;

const isKind = (value: number): value is Kind => Object.values<number>(Kind).includes(value);

/** Reads one frame; null when it is cut short, of an unknown kind, or beyond what a number can count exactly. */
export function decodeFrame(buffer: ArrayBuffer): Frame | null {
  if (buffer.byteLength < HEADER_BYTES) return null;
  const view = new DataView(buffer);
  const kind = view.getUint8(0);
  const offset = view.getBigUint64(5);
  if (!isKind(kind) || offset > BigInt(Number.MAX_SAFE_INTEGER)) return null;
  return { kind, handle: view.getUint32(1), offset: Number(offset), payload: new Uint8Array(buffer, HEADER_BYTES) };
}

export function encodeFrame(frame: Frame): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEADER_BYTES + frame.payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, frame.kind);
  view.setUint32(1, frame.handle);
  view.setBigUint64(5, BigInt(frame.offset));
  bytes.set(frame.payload, HEADER_BYTES);
  return bytes;
}

export const inputFrame = (handle: number, payload: Uint8Array): Uint8Array<ArrayBuffer> => encodeFrame({ kind: Kind.input, handle, offset: 0, payload });
