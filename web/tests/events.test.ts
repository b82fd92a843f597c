import { describe, expect, it } from 'vitest';
import {
  EventStream,
  wait,
  WAIT_FIRST_MS,
  WAIT_MOST_MS,
  type Surroundings,
  type WebSocketLike,
} from '../src/api/events';
import type { NodeEvent } from '../src/api/types';

class Socket implements WebSocketLike {
  onopen: ((event: Event) => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  sent: string[] = [];
  closed = false;
  send(text: string): void {
    this.sent.push(text);
  }
  close(): void {
    this.closed = true;
  }
  tell(event: unknown): void {
    this.onmessage?.({ data: JSON.stringify(event) } as MessageEvent);
  }
}

/** A world without time: what is to happen later happens when the test says so. */
function world() {
  const sockets: Socket[] = [];
  const timers: { ms: number; then: () => void }[] = [];
  const told: string[] = [];
  const around: Surroundings = {
    open: () => {
      const socket = new Socket();
      sockets.push(socket);
      return socket;
    },
    random: () => 1,
    later: (ms, then) => {
      const timer = { ms, then };
      timers.push(timer);
      return () => void timers.splice(timers.indexOf(timer) >>> 0, 1);
    },
  };
  const stream = new EventStream(
    'token',
    {
      resync: () => told.push('resync'),
      event: (event: NodeEvent) => told.push(event.type),
      state: (state) => told.push(state),
    },
    around,
  );
  const at = (index: number): Socket => {
    const socket = sockets[index];
    if (socket === undefined) throw new Error(`there is no socket ${index}`);
    return socket;
  };
  return { sockets, timers, told, stream, at };
}

describe('the stream of events', () => {
  it('says who it is, and reads everything when it is welcome', () => {
    const { at, told } = world();
    at(0).onopen?.({} as Event);
    expect(at(0).sent).toEqual(['{"token":"token"}']);
    at(0).tell({ type: 'welcome', api_version: 1 });
    at(0).tell({ type: 'homes', ready: true, homes: [] });
    expect(told).toEqual(['connecting', 'live', 'resync', 'homes']);
  });

  it('opens again after a break, and reads everything anew', () => {
    const { at, told, timers, sockets } = world();
    at(0).tell({ type: 'welcome', api_version: 1 });
    at(0).onclose?.({ code: 1006 } as CloseEvent);
    expect(told.at(-1)).toBe('lost');
    expect(timers.map((timer) => timer.ms)).toEqual([WAIT_FIRST_MS]);
    timers[0]?.then();
    expect(sockets.length).toBe(2);
    at(1).tell({ type: 'welcome', api_version: 1 });
    expect(told.filter((word) => word === 'resync').length).toBe(2);
  });

  it('reads everything anew when it was too slow', () => {
    const { at, told } = world();
    at(0).tell({ type: 'welcome', api_version: 1 });
    at(0).tell({ type: 'missed', events: 3 });
    expect(told.filter((word) => word === 'resync').length).toBe(2);
  });

  it('does not try again with a token that is refused', () => {
    const { at, told, timers } = world();
    at(0).onclose?.({ code: 4401 } as CloseEvent);
    expect(told.at(-1)).toBe('refused');
    expect(timers).toEqual([]);
  });

  it('gives up an attempt that is not welcomed, and waits longer each time', () => {
    const { timers, sockets } = world();
    const waits: number[] = [];
    for (let attempt = 0; attempt < 8; attempt += 1) {
      timers.shift()?.then();
      waits.push(timers[0]?.ms ?? 0);
      timers.shift()?.then();
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
    expect(sockets.slice(0, -1).every((socket) => socket.closed)).toBe(true);
  });

  it('passes over what it does not understand', () => {
    const { at, told } = world();
    at(0).onmessage?.({ data: 'no JSON' } as MessageEvent);
    at(0).tell(7);
    at(0).tell(null);
    expect(told).toEqual(['connecting']);
  });

  it('draws waits between half and the whole', () => {
    expect(wait(1, 0)).toBe(WAIT_FIRST_MS / 2);
    expect(wait(1, 1)).toBe(WAIT_FIRST_MS);
    expect(wait(1_000_000, 1)).toBe(WAIT_MOST_MS);
  });
});
