// Another server on this machine: an attacker's pages, and a target that lets everything happen, to show that an attack is real.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, request } from 'node:http';

/** What RFC 6455 appends to the client's key. */
const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

const TYPES = [
  [/\.css$/, 'text/css', 'body{--kas-leak:1}'],
  [/\.svg$/, 'image/svg+xml', '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'],
  [/^\/api\//, 'text/javascript', 'var kasLeak=1'],
  [/./, 'text/html', '<!doctype html><title>elsewhere</title><p>A page of someone else.'],
];

export class Elsewhere {
  /** Every request, newest last. */
  seen = [];
  /** Headers of its answers, to be changed by a test. */
  headers = {};

  async start() {
    this.#server = createServer((asked, answer) => this.#answer(asked, answer));
    this.#server.on('upgrade', (asked, socket) => this.#upgrade(asked, socket));
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    this.port = this.#server.address().port;
    this.origin = `http://127.0.0.1:${this.port}`;
  }

  stop() {
    for (const socket of this.#upgraded) socket.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** How often something was asked for since `from` that would change a daemon without a guard. */
  effects(from = 0) {
    return this.seen.slice(from).filter(({ method, url }) => method === 'POST' && url.startsWith('/api/')).length;
  }

  #server = null;
  #upgraded = [];

  #note(asked) {
    this.seen.push({ method: asked.method, url: asked.url, headers: asked.headers });
  }

  /** Allows every origin everything. */
  #answer(asked, answer) {
    this.#note(asked);
    const [, type, body] = TYPES.find(([path]) => path.test(asked.url.split('?')[0]));
    answer.writeHead(asked.method === 'OPTIONS' ? 204 : 200, {
      'Content-Type': type,
      'Access-Control-Allow-Origin': asked.headers.origin ?? '*',
      'Access-Control-Allow-Credentials': 'true',
      'Access-Control-Allow-Headers': 'content-type,x-kas-key',
      ...this.headers,
    });
    asked.resume().on('end', () => answer.end(asked.method === 'OPTIONS' ? undefined : body));
  }

  #upgrade(asked, socket) {
    this.#note(asked);
    const accept = createHash('sha1').update(asked.headers['sec-websocket-key'] + WEBSOCKET_GUID).digest('base64');
    const [protocol] = (asked.headers['sec-websocket-protocol'] ?? '').split(',');
    const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade', `Sec-WebSocket-Accept: ${accept}`];
    socket.write([...lines, ...(protocol ? [`Sec-WebSocket-Protocol: ${protocol}`] : []), '', ''].join('\r\n'));
    socket.on('error', () => {});
    this.#upgraded.push(socket);
  }
}

/** A request with exactly these headers, as a program that stole something would send it; answers the status. */
export async function raw(url, { method = 'GET', headers = {}, body = '' } = {}) {
  const asking = request(url, { method, headers });
  asking.end(body);
  const [answer] = await Promise.race([once(asking, 'response'), once(asking, 'upgrade')]);
  answer.socket.destroy();
  return answer.statusCode;
}
