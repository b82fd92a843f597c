// The test call: was something said, and did it come back?

export type EchoResult = 'speak' | 'quiet' | 'waiting' | 'works' | 'nothing_back';

/** Louder than this counts as somebody speaking (0 to 1, about -36 dB). */
const SPEECH = 0.4;
/** So much speech is enough to judge by. */
const ENOUGH_MS = 600;
/** Silence for so long at the beginning is told. */
const QUIET_MS = 6_000;
/** What was said comes back within this, or not at all. */
const BACK_MS = 5_000;

/** Takes levels of what is said and what is heard, as they come. */
export class EchoTest {
  #said = 0;
  #heard = 0;
  #firstMs: number | undefined;
  #lastMs = 0;
  #spokeMs: number | undefined;

  add(said: number, heard: number, atMs: number): EchoResult {
    const step = this.#firstMs === undefined ? 0 : atMs - this.#lastMs;
    this.#firstMs ??= atMs;
    this.#lastMs = atMs;
    if (said >= SPEECH) {
      this.#said += step;
      this.#spokeMs ??= atMs;
    }
    // Only what comes after speech is its echo.
    if (heard >= SPEECH && this.#spokeMs !== undefined) this.#heard += step;
    return this.#judge(atMs);
  }

  #judge(atMs: number): EchoResult {
    const first = this.#firstMs ?? atMs;
    if (this.#said < ENOUGH_MS) return atMs - first > QUIET_MS ? 'quiet' : 'speak';
    if (this.#heard >= ENOUGH_MS / 2) return 'works';
    return atMs - (this.#spokeMs ?? atMs) > BACK_MS ? 'nothing_back' : 'waiting';
  }
}
