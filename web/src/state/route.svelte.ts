// Where the person is: the fragment of the page's address, like #/people/requests.

export const SCREENS = ['people', 'call', 'connections', 'volunteer', 'settings', 'welcome'] as const;
export type Screen = (typeof SCREENS)[number];

export interface Route {
  screen: Screen;
  /** What follows, decoded: at most a few parts. */
  rest: string[];
}

/** Reads a fragment. What is not known leads to the people. */
export function parseRoute(fragment: string): Route {
  const [first = '', ...rest] = fragment
    .replace(/^#?\/?/, '')
    .split('/')
    .slice(0, 4);
  const screen = SCREENS.find((known) => known === first);
  if (screen === undefined) return { screen: 'people', rest: [] };
  return { screen, rest: rest.filter((part) => part !== '').map(decode) };
}

/** A link to a place on the page. */
export function href(screen: Screen, ...rest: string[]): string {
  return `#/${[screen, ...rest.map(encodeURIComponent)].join('/')}`;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

class Place {
  now = $state.raw<Route>({ screen: 'people', rest: [] });

  begin(): void {
    const read = () => {
      this.now = parseRoute(location.hash);
    };
    window.addEventListener('hashchange', read);
    read();
  }

  go(screen: Screen, ...rest: string[]): void {
    location.hash = href(screen, ...rest);
  }
}

export const place = new Place();
