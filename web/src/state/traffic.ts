// Bytes over time, from figures that only ever grow, connection by connection.
import type { ConnectionView } from '../api/types';
import { groupOf, GROUPS, type Group } from './picture';

export interface Moment {
  atMs: number;
  /** Bits per second in each group since the moment before, both ways. */
  rates: Record<Group, number>;
}

export const MOMENTS_MOST = 90;

/** Remembers what was read last, and says what went since. */
export class Traffic {
  moments: Moment[] = [];
  #before = new Map<string, number>();
  #atMs: number | undefined;

  add(connections: ConnectionView[], atMs: number): void {
    const now = new Map<string, number>();
    const bytes: Record<Group, number> = { home: 0, call: 0, network: 0, serve: 0 };
    for (const one of connections) {
      const key = [one.role, one.peer, one.remote, one.since_unix_ms].join(' ');
      const total = one.bytes_in + one.bytes_out;
      now.set(key, (now.get(key) ?? 0) + total);
      // One that was not there before brings all it has: it is younger than the moment before.
      bytes[groupOf(one)] += Math.max(0, total - (this.#before.get(key) ?? 0));
    }
    const since = this.#atMs === undefined ? 0 : atMs - this.#atMs;
    if (since > 0) {
      const rates = Object.fromEntries(GROUPS.map((group) => [group, (bytes[group] * 8000) / since]));
      this.moments = [...this.moments, { atMs, rates: rates as Record<Group, number> }].slice(-MOMENTS_MOST);
    }
    this.#before = now;
    this.#atMs = atMs;
  }
}
