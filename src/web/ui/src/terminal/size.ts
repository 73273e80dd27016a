// The size terminals last had on this page, so that a task is started in the size it will be shown in.

import type { Size } from '../stream/channel';

const KEY = 'kas.size';
const LIMIT = 1000;

export function rememberSize(size: Size): void {
  sessionStorage.setItem(KEY, `${size.cols}x${size.rows}`);
}

export function lastSize(): Size | null {
  return parseSize(sessionStorage.getItem(KEY) ?? '');
}

export function parseSize(text: string): Size | null {
  const [, cols, rows] = /^(\d{1,4})x(\d{1,4})$/.exec(text) ?? [];
  return cols && rows ? usableSize({ cols: Number(cols), rows: Number(rows) }) : null;
}

/** What is measured as a size the daemon takes; null while the terminal is not laid out. */
export function usableSize(size: Size | undefined): Size | null {
  if (!size || !(size.cols >= 2) || !(size.rows >= 1)) return null;
  return { cols: Math.min(size.cols, LIMIT), rows: Math.min(size.rows, LIMIT) };
}
