// The node as the page knows it: one stream of events, and what is read anew when the stream was broken.
import { EventStream, type StreamState } from '../api/events';
import type { Identity, NodeEvent, Status } from '../api/types';
import { calls } from './calls.svelte';
import { notices } from './notices.svelte';
import { people } from './people.svelte';
import { client, session } from './session.svelte';
import { voice } from './voice.svelte';

class Node {
  stream = $state<StreamState>('connecting');
  status = $state.raw<Status | undefined>(undefined);
  identity = $state.raw<Identity | undefined>(undefined);
  /** The node said that it is stopping. */
  stopping = $state(false);
  /** Counts up whenever the account's devices changed, for whoever shows them. */
  devicesChanged = $state(0);
  /** Counts up whenever what is served changed. */
  servingChanged = $state(0);
  #events: EventStream | undefined;

  begin(): void {
    this.#events = new EventStream(session.token, {
      resync: () => void this.resync(),
      event: (event) => this.#take(event),
      state: (state) => {
        this.stream = state;
        if (state === 'refused') session.refused();
      },
    });
    window.addEventListener('online', () => this.retryNow());
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.retryNow();
    });
  }

  retryNow(): void {
    this.#events?.retryNow();
  }

  /** Reads everything anew that events would have changed. */
  async resync(): Promise<void> {
    this.stopping = false;
    try {
      const [status, identity] = await Promise.all([client.status(), client.identity()]);
      this.status = status;
      this.identity = identity;
      people.requestsWaiting = status.requests_waiting ?? 0;
      this.devicesChanged += 1;
      this.servingChanged += 1;
      await Promise.all([people.load(), calls.load()]);
    } catch (error) {
      // A broken stream tries again, and says so; only what the node itself says is shown.
      if (this.stream === 'live') notices.failed(error);
    }
  }

  async refreshStatus(): Promise<void> {
    try {
      this.status = await client.status();
    } catch {
      // The next event or the next welcome reads it again.
    }
  }

  #take(event: NodeEvent): void {
    switch (event.type) {
      case 'call':
        calls.take(event);
        voice.take(event);
        break;
      case 'homes':
        void this.refreshStatus();
        break;
      case 'contact_added':
      case 'contact_changed':
        people.put(event.contact);
        break;
      case 'contact_removed':
        people.drop(event.address);
        break;
      case 'requests_waiting':
        people.requestsWaiting = event.count;
        void people.loadRequests();
        break;
      case 'request_sent':
        people.putSent(event.request);
        break;
      case 'serving':
        this.servingChanged += 1;
        void this.refreshStatus();
        break;
      case 'devices':
        this.devicesChanged += 1;
        break;
      case 'notice':
        notices.problem(event.problem);
        break;
      case 'stopping':
        this.stopping = true;
        break;
      default:
        // Of a newer node: passed over.
        break;
    }
  }
}

export const node = new Node();
