// The ledger as days one after the other, for a chart.
import type { LedgerLine } from '../api/types';

export interface LedgerDay {
  /** In UTC, as `2026-11-23`. */
  day: string;
  directory: number;
  relay: number;
}

const DAY_MS = 86_400_000;

/** The last days up to now, oldest first; those without service are there with nothing. */
export function days(lines: LedgerLine[], count: number, nowMs: number): LedgerDay[] {
  return Array.from({ length: count }, (_, at) => {
    const day = new Date(nowMs - (count - 1 - at) * DAY_MS).toISOString().slice(0, 10);
    const bytes = (role: string) =>
      lines
        .filter((line) => line.day === day && line.role === role)
        .reduce((sum, line) => sum + line.bytes, 0);
    return { day, directory: bytes('directory'), relay: bytes('relay') };
  });
}
