// The sounds of a telephone, made here: ringing for a call that comes in, and the tone while it rings there.

interface Pattern {
  /** In Hz, together. */
  tones: number[];
  /** Sounding and silent, in s, again and again. */
  beats: [on: number, off: number][];
  gain: number;
}

const RING: Pattern = {
  tones: [587.33, 880],
  beats: [
    [0.35, 0.15],
    [0.35, 2.0],
  ],
  gain: 0.14,
};
/** The tone of ETSI TR 101 041: 425 Hz, 1 s on and 4 s off. */
const RINGBACK: Pattern = { tones: [425], beats: [[1, 4]], gain: 0.06 };
/** So much is planned ahead; a call rings a minute at most. */
const PLANNED_S = 70;
const EDGE_S = 0.02;

/** Plays a pattern until it is stopped. */
class Player {
  #context: AudioContext | undefined;

  constructor(private readonly pattern: Pattern) {}

  start(): void {
    if (this.#context !== undefined) return;
    const context = new AudioContext();
    this.#context = context;
    const gain = context.createGain();
    gain.gain.value = 0;
    gain.connect(context.destination);
    for (const tone of this.pattern.tones) {
      const oscillator = context.createOscillator();
      oscillator.frequency.value = tone;
      oscillator.connect(gain);
      oscillator.start();
    }
    plan(gain.gain, this.pattern, context.currentTime + 0.05);
    // Without any click on the page the browser lets nothing sound; the picture and the notification remain.
    void context.resume().catch(() => undefined);
  }

  stop(): void {
    void this.#context?.close();
    this.#context = undefined;
  }
}

function plan(gain: AudioParam, pattern: Pattern, from: number): void {
  const level = pattern.gain / pattern.tones.length;
  for (let at = from; at < from + PLANNED_S;) {
    for (const [on, off] of pattern.beats) {
      gain.setValueAtTime(0, at);
      gain.linearRampToValueAtTime(level, at + EDGE_S);
      gain.setValueAtTime(level, at + on - EDGE_S);
      gain.linearRampToValueAtTime(0, at + on);
      at += on + off;
    }
  }
}

export const ring = new Player(RING);
export const ringback = new Player(RINGBACK);
