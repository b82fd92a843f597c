// Who this page is to the node: the token of this start, in this tab only.
import { Client, Refused } from '../api/client';

export const TOKEN_KEY = 'tandem-token';

export type SessionState =
  | 'beginning'
  /** There is no token in this tab. */
  | 'missing'
  /** There is one, and the node does not know it: it was restarted since. */
  | 'old'
  /** The link that brought us here was used already, or is of an earlier start. */
  | 'code_refused'
  /** The node did not answer when the code was to be traded. */
  | 'unreachable'
  | 'open';

class Session {
  state = $state<SessionState>('beginning');
  token = '';

  constructor(readonly client: Client) {
    client.onUnauthorised = () => this.refused();
  }

  /** Takes the token of this tab, or trades the code in the address for one. */
  async begin(): Promise<void> {
    // A link opened in a tab that shows the page already loads nothing anew.
    window.addEventListener('hashchange', () => {
      const code = takeCode();
      if (code !== undefined && this.state !== 'open') void this.#trade(code);
    });
    const code = takeCode();
    if (code !== undefined) await this.#trade(code);
    else this.#take(sessionStorage.getItem(TOKEN_KEY) ?? '');
  }

  /** The node does not take the token. */
  refused(): void {
    sessionStorage.removeItem(TOKEN_KEY);
    this.token = '';
    this.state = 'old';
  }

  #take(token: string): void {
    this.token = token;
    this.client.setToken(token);
    this.state = token === '' ? 'missing' : 'open';
  }

  async #trade(code: string): Promise<void> {
    try {
      const { token } = await this.client.openSession(code);
      sessionStorage.setItem(TOKEN_KEY, token);
      this.#take(token);
    } catch (error) {
      // A link that was followed twice in one tab does no harm.
      const kept = sessionStorage.getItem(TOKEN_KEY) ?? '';
      if (kept !== '') this.#take(kept);
      else this.state = error instanceof Refused ? 'code_refused' : 'unreachable';
    }
  }
}

/** The one-time code of `/#code=…`. It is taken out of the address and the history at once. */
function takeCode(): string | undefined {
  const code = /^#code=([\w-]{1,256})$/.exec(location.hash)?.[1];
  if (code !== undefined) history.replaceState(null, '', location.pathname);
  return code;
}

export const session = new Session(new Client());
export const client = session.client;
