// The WebSocket of events: opened again when it breaks, with waits that grow and are drawn by lot.
import type { NodeEvent } from './types';

export type StreamState = 'connecting' | 'live' | 'lost' | 'refused' | 'closed';

/** What the stream needs of the outside; a test gives its own. */
export interface Surroundings {
  open(): WebSocketLike;
  random(): number;
  later(ms: number, then: () => void): () => void;
}

export interface WebSocketLike {
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  send(text: string): void;
  close(): void;
}

export interface Listener {
  /** The stream stands again: whatever was known before may be old. */
  resync(): void;
  event(event: NodeEvent): void;
  state(state: StreamState): void;
}

/** The node's close code for a wrong token. */
const CLOSE_UNAUTHORISED = 4401;
export const WAIT_FIRST_MS = 500;
export const WAIT_MOST_MS = 15_000;
/** Nothing but a welcome comes within this time: the attempt is given up. */
export const WELCOME_MS = 10_000;

export class EventStream {
  #socket: WebSocketLike | undefined;
  #failures = 0;
  #cancel: () => void = () => undefined;
  #closed = false;

  constructor(
    private readonly token: string,
    private readonly listener: Listener,
    private readonly around: Surroundings = browser(),
  ) {
    this.#open();
  }

  /** Tries at once instead of after the wait, for example when the machine is back online. */
  retryNow(): void {
    if (this.#closed || this.#socket !== undefined) return;
    this.#cancel();
    this.#open();
  }

  close(): void {
    this.#closed = true;
    this.#cancel();
    this.#drop();
    this.listener.state('closed');
  }

  #open(): void {
    this.listener.state(this.#failures === 0 ? 'connecting' : 'lost');
    const socket = this.around.open();
    this.#socket = socket;
    this.#cancel = this.around.later(WELCOME_MS, () => this.#failed());
    socket.onopen = () => socket.send(JSON.stringify({ token: this.token }));
    socket.onmessage = (message) => this.#take(message.data);
    socket.onclose = (close) => {
      if (close.code === CLOSE_UNAUTHORISED) this.#refused();
      else this.#failed();
    };
  }

  #take(data: unknown): void {
    const event = parse(data);
    if (event === undefined) return;
    if (event.type === 'welcome') {
      this.#cancel();
      this.#failures = 0;
      this.listener.state('live');
      this.listener.resync();
    } else if (event.type === 'missed') {
      this.listener.resync();
    } else {
      this.listener.event(event);
    }
  }

  #failed(): void {
    this.#cancel();
    this.#drop();
    if (this.#closed) return;
    this.listener.state('lost');
    this.#failures += 1;
    this.#cancel = this.around.later(wait(this.#failures, this.around.random()), () => this.#open());
  }

  #refused(): void {
    this.#closed = true;
    this.#cancel();
    this.#drop();
    this.listener.state('refused');
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket === undefined) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

/** How long to wait after so many failures: doubled each time, and drawn from the upper half. In ms. */
export function wait(failures: number, random: number): number {
  const most = Math.min(WAIT_MOST_MS, WAIT_FIRST_MS * 2 ** Math.min(failures - 1, 10));
  return Math.round(most / 2 + (most / 2) * random);
}

function parse(data: unknown): NodeEvent | undefined {
  if (typeof data !== 'string') return undefined;
  try {
    const value = JSON.parse(data) as unknown;
    if (typeof value === 'object' && value !== null && 'type' in value) return value as NodeEvent;
  } catch {
    // Not the node's: passed over.
  }
  return undefined;
}

function browser(): Surroundings {
  return {
    open: () => {
      const url = new URL('/api/events', location.href);
      url.protocol = 'ws:';
      url.hash = '';
      return new WebSocket(url);
    },
    random: Math.random,
    later: (ms, then) => {
      const timer = setTimeout(then, ms);
      return () => clearTimeout(timer);
    },
  };
}
