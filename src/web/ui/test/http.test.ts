// Requests whose answers do not come to their end.
import { afterEach, expect, test, vi } from 'vitest';
import { ApiError, request } from '../src/api/http';

afterEach(() => vi.unstubAllGlobals());

test.each([
  ['breaks off', new TypeError('terminated')],
  ['is not whole in time', new DOMException('The operation timed out.', 'TimeoutError')],
])('an answer that %s is a daemon that does not answer', async (_, why) => {
  const body = new ReadableStream({
    start: (answer) => answer.enqueue(new TextEncoder().encode('{"items":')),
    pull: (answer) => answer.error(why),
  });
  vi.stubGlobal('fetch', async () => new Response(body));
  vi.stubGlobal('sessionStorage', { getItem: () => 'key' });
  const error = await request('GET', '/projects').catch((it: unknown) => it);
  expect(error).toBeInstanceOf(ApiError);
  expect(error).toMatchObject({ status: 0, code: 'unavailable' });
});
