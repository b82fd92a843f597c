// How a call sounds, in a word: from what came, what was lost and what had to be made up lately.
import type { CallSummary } from '../api/types';

export type Quality = 'measuring' | 'good' | 'fair' | 'poor' | 'silent';

interface Sample {
  atMs: number;
  received: number;
  lost: number;
  concealedMs: number;
}

/** Judged over so long. */
const WINDOW_MS = 6_000;
const FIRST_MS = 2_500;
/** Shares of the window's time that were made up. */
const FAIR_FROM = 0.02;
const POOR_FROM = 0.1;

/** Takes a call's figures as they come, and says how it is now. */
export class QualityMeter {
  #samples: Sample[] = [];

  add(call: CallSummary, atMs: number): void {
    const { packets, concealed_ms } = call.result;
    const sample = { atMs, received: packets.received, lost: packets.lost, concealedMs: concealed_ms ?? 0 };
    this.#samples = [...this.#samples.filter((old) => atMs - old.atMs <= WINDOW_MS), sample];
  }

  now(): Quality {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs - first.atMs < FIRST_MS) return 'measuring';
    const received = last.received - first.received;
    if (received <= 0) return 'silent';
    const lost = Math.max(0, last.lost - first.lost) / (received + Math.max(0, last.lost - first.lost));
    const concealed = Math.max(0, last.concealedMs - first.concealedMs) / (last.atMs - first.atMs);
    const worse = Math.max(lost, concealed);
    if (worse >= POOR_FROM) return 'poor';
    return worse >= FAIR_FROM ? 'fair' : 'good';
  }

  reset(): void {
    this.#samples = [];
  }
}
