// Calls going on and past ones. Events move them on at once; the node's own list is read soon after.
import type { CallEvent, CallSummary } from '../api/types';
import { notices } from './notices.svelte';
import { client } from './session.svelte';

const HISTORY_MOST = 100;
/** Several events of one moment are followed by one reading. */
const SETTLE_MS = 120;
/** While a call goes on its figures are read so often. */
const FIGURES_EVERY_MS = 1_000;

/** What only the event of an incoming call says. */
export interface Caller {
  claimedName: string;
  invitation: string | undefined;
}

class Calls {
  list = $state.raw<CallSummary[]>([]);
  callers = $state.raw<ReadonlyMap<string, Caller>>(new Map());
  /** The call that ended last while this page was open, until it is put away: its screen says how it was. */
  lastEnded = $state<string | undefined>(undefined);
  /** Test calls begun here. */
  echoes = $state.raw<ReadonlySet<string>>(new Set());

  going = $derived(this.list.filter((call) => call.state !== 'ended'));
  incoming = $derived(this.going.filter((call) => call.direction === 'incoming' && call.state === 'ringing'));
  /** The call that this person is in or has begun: the newest that does not only ring here. */
  current = $derived(this.going.find((call) => !this.incoming.includes(call)));
  past = $derived(this.list.filter((call) => call.state === 'ended'));

  #settle: ReturnType<typeof setTimeout> | undefined;
  #figures: ReturnType<typeof setTimeout> | undefined;

  async load(): Promise<void> {
    this.list = await client.calls(HISTORY_MOST);
    this.#watchFigures();
  }

  get(call: string): CallSummary | undefined {
    return this.list.find((known) => known.call === call);
  }

  take(event: CallEvent): void {
    if (event.event === 'incoming') {
      const caller = { claimedName: event.claimed_name ?? '', invitation: event.invitation ?? undefined };
      this.callers = new Map(this.callers).set(event.call, caller);
    }
    if (event.event === 'ended') this.lastEnded = event.call;
    this.list = this.list.map((call) => (call.call === event.call ? advance(call, event) : call));
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => void this.#reload(), SETTLE_MS);
  }

  putAway(): void {
    this.lastEnded = undefined;
  }

  noteEcho(call: string): void {
    this.echoes = new Set(this.echoes).add(call);
  }

  async #reload(): Promise<void> {
    try {
      await this.load();
    } catch (error) {
      notices.failed(error);
    }
  }

  #watchFigures(): void {
    clearTimeout(this.#figures);
    if (this.going.length === 0) return;
    this.#figures = setTimeout(() => {
      // A broken stream reads everything when it stands again.
      this.load().catch(() => this.#watchFigures());
    }, FIGURES_EVERY_MS);
  }
}

/** What an event alone says of a call's state, until the node's list is read. */
export function advance(call: CallSummary, event: CallEvent): CallSummary {
  switch (event.event) {
    case 'ringing':
      return { ...call, state: 'ringing' };
    case 'answered':
      return { ...call, state: 'connecting' };
    case 'connected':
      return { ...call, state: 'talking', relays_in_use: event.relays };
    case 'ended':
      return {
        ...call,
        state: 'ended',
        ended_unix_ms: event.at_unix_ms,
        reason: event.reason,
        result: event.result,
      };
    case 'mirroring':
      return { ...call, mirroring: event.on };
    default:
      return call;
  }
}

export const calls = new Calls();
