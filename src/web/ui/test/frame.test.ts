// The frame codec against bytes written by hand.
import { describe, expect, test } from 'vitest';
import { decodeFrame, encodeFrame, HEADER_BYTES, inputFrame, Kind } from '../src/stream/frame';

const WIRE = [1, 0, 0, 1, 7, 0, 0, 0, 2, 0, 0, 0, 5, 0x61, 0xff];

describe('frame', () => {
  test('is read as kind, handle, offset, payload, big endian', () => {
    const frame = decodeFrame(Uint8Array.from(WIRE).buffer);
    expect(frame).toMatchObject({ kind: Kind.output, handle: 263, offset: 2 * 2 ** 32 + 5 });
    expect([...frame!.payload]).toEqual([0x61, 0xff]);
  });

  test('is written the same way', () => {
    const bytes = encodeFrame({ kind: Kind.output, handle: 263, offset: 2 * 2 ** 32 + 5, payload: Uint8Array.of(0x61, 0xff) });
    expect([...bytes]).toEqual(WIRE);
  });

  test.each([0, 1, HEADER_BYTES - 1])('of %i bytes is none', (length) => {
    expect(decodeFrame(Uint8Array.from(WIRE.slice(0, length)).buffer)).toBeNull();
  });

  test('of an unknown kind is none', () => {
    expect(decodeFrame(Uint8Array.from([9, ...WIRE.slice(1)]).buffer)).toBeNull();
  });

  test('whose offset a number cannot count is none', () => {
    expect(decodeFrame(Uint8Array.from([1, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255]).buffer)).toBeNull();
  });

  test('may be empty', () => {
    expect(decodeFrame(Uint8Array.from(WIRE.slice(0, HEADER_BYTES)).buffer)?.payload.length).toBe(0);
  });
});

test('a frame of input has no offset', () => {
  const decoded = decodeFrame(inputFrame(3, Uint8Array.from([1, 2])).buffer)!;
  expect(decoded).toEqual({ kind: Kind.input, handle: 3, offset: 0, payload: Uint8Array.from([1, 2]) });
});
