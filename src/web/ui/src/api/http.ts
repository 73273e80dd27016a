// Requests to the daemon: JSON both ways, the session's key on each, errors as one type.

import { sessionKey, sessionLost } from './session';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly reason: string | null,
  ) {
    super(message);
  }
}

/** How long an answer to a question may take, to its last byte. What changes something is waited for. */
const READ_MS = 10_000;

const UNREACHABLE = 'The daemon does not answer.';

/** `path` is below `/api/v1`. Rejects with `ApiError` only; status 0 is "not reached". */
export async function request<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = {
    method,
    credentials: 'same-origin',
    cache: 'no-store',
    headers: { 'X-Kas-Key': sessionKey() ?? '', ...(method === 'GET' ? {} : { 'Content-Type': 'application/json' }), ...headers },
  };
  if (method !== 'GET') init.body = JSON.stringify(body ?? {});
  if (method === 'GET') signal ??= AbortSignal.timeout(READ_MS);
  if (signal) init.signal = signal;
  const response = await fetch(`/api/v1${path}`, init).catch(unreachable);
  if (!response.ok) throw await failure(response);
  return response.status === 204 ? (undefined as T) : ((await response.json().catch(unreachable)) as T);
}

const unreachable = (): never => {
  throw new ApiError(0, 'unavailable', UNREACHABLE, null);
};

async function failure(response: Response): Promise<ApiError> {
  if (response.status === 401) sessionLost();
  const body: unknown = await response.json().catch(() => null);
  const { code, message, details } = (body as ErrorBody | null)?.error ?? {};
  return new ApiError(response.status, code ?? 'internal', message ?? `The daemon answered ${response.status}.`, details?.reason ?? null);
}

interface ErrorBody {
  error?: { code?: string; message?: string; details?: { reason?: string } | null };
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
