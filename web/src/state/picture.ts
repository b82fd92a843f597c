// Where things stand in the picture of connections: this node in the middle, what it is connected to around it.
import type { CallSummary, ConnectionRole, ConnectionView } from '../api/types';

export const GROUPS = ['home', 'call', 'network', 'serve'] as const;
export type Group = (typeof GROUPS)[number];

const GROUP_OF: Record<ConnectionRole, Group> = {
  home: 'home',
  candidate: 'home',
  relay: 'call',
  direct: 'call',
  signal: 'call',
  carrier: 'call',
  errand: 'network',
  directory: 'network',
  scout: 'network',
  served: 'serve',
  visitor: 'serve',
  forwarded: 'serve',
  relayed: 'serve',
};

/** What a connection is there for, in one of four words. */
export function groupOf(connection: ConnectionView): Group {
  return connection.for_echo === true ? 'serve' : GROUP_OF[connection.role];
}

/** So many of a group are drawn one by one; the others together. */
export const DRAWN_MOST = 6;

/** One round thing. */
export interface Spot {
  key: string;
  group: Group | 'me' | 'person';
  x: number;
  y: number;
  /** The connection it stands for. */
  connection?: ConnectionView;
  /** Of those drawn together. */
  count?: number;
  /** Of a person: the call. */
  call?: CallSummary;
}

/** A line between two of them. */
export interface Line {
  key: string;
  from: Spot;
  to: Spot;
  group: Group;
  /** 0 to 1: how much goes over it beside the others. */
  weight: number;
}

export interface Picture {
  spots: Spot[];
  lines: Line[];
}

/** Directions of the groups from the middle, in turns: homes above, calls right, the directory below, service left. */
const DIRECTION: Record<Group, number> = { home: -0.25, call: 0, network: 0.25, serve: 0.5 };
/** A group takes so much of the circle at most. */
const SPREAD = 0.25;
/** Between two of a group, at most. */
const STEP_MOST: Record<Group, number> = { home: 0.12, call: 0.08, network: 0.12, serve: 0.08 };
const MARGIN_X = 52;
const MARGIN_Y = 44;

export function picture(
  connections: ConnectionView[],
  calls: CallSummary[],
  width: number,
  height: number,
): Picture {
  const me: Spot = { key: 'me', group: 'me', x: width / 2, y: height / 2 };
  const spots: Spot[] = [me];
  const lines: Line[] = [];
  const busiest = Math.max(1, ...connections.map((one) => one.bytes_in + one.bytes_out));
  for (const group of GROUPS) {
    const members = connections.filter((one) => groupOf(one) === group);
    const drawn = members.slice(0, members.length > DRAWN_MOST ? DRAWN_MOST - 1 : DRAWN_MOST);
    const rest = members.length - drawn.length;
    const places = ring(group, drawn.length + (rest > 0 ? 1 : 0), width, height);
    places.forEach(([x, y], at) => {
      const connection = drawn[at];
      const spot: Spot =
        connection === undefined
          ? { key: `${group}-rest`, group, x, y, count: rest }
          : { key: keyOf(connection, at), group, x, y, connection };
      const bytes = connection === undefined ? 0 : connection.bytes_in + connection.bytes_out;
      spots.push(spot);
      lines.push({ key: spot.key, from: me, to: spot, group, weight: Math.sqrt(bytes / busiest) });
    });
  }
  addPeople(spots, lines, calls, width, height);
  return { spots, lines };
}

function keyOf(connection: ConnectionView, at: number): string {
  return [connection.role, connection.peer, connection.remote, connection.since_unix_ms, at].join(' ');
}

/** Places of so many on the part of the ellipse that belongs to a group. */
function ring(group: Group, count: number, width: number, height: number): [number, number][] {
  const [radiusX, radiusY] = [width / 2 - MARGIN_X, height / 2 - MARGIN_Y];
  // What belongs to a call stands nearer, so that the person has a place behind it.
  const near = group === 'call' ? 0.62 : 1;
  const step = count > 1 ? Math.min(STEP_MOST[group], SPREAD / (count - 1)) : 0;
  return Array.from({ length: count }, (_, at) => {
    const angle = 2 * Math.PI * (DIRECTION[group] + (at - (count - 1) / 2) * step);
    const tall = group === 'call' || group === 'serve' ? 1.5 : 1;
    const y = Math.sin(angle) * radiusY * near * tall;
    return [
      Math.round(width / 2 + Math.cos(angle) * radiusX * near),
      Math.round(height / 2 + Math.min(radiusY, Math.max(-radiusY, y))),
    ];
  });
}

/** Those one talks with, behind the relays that carry the call, or alone where it is direct. */
function addPeople(spots: Spot[], lines: Line[], calls: CallSummary[], width: number, height: number): void {
  const talking = calls.filter((call) => call.state === 'talking');
  talking.forEach((call, at) => {
    const y = Math.round(height / 2 + (at - (talking.length - 1) / 2) * 70);
    const person: Spot = { key: `person ${call.call}`, group: 'person', x: width - MARGIN_X, y, call };
    const relays = call.relays_in_use ?? [];
    const carriers = spots.filter(
      (spot) =>
        spot.connection !== undefined &&
        (relays.length === 0
          ? spot.connection.role === 'direct'
          : spot.connection.role === 'relay' && relays.includes(spot.connection.peer)),
    );
    const [me] = spots;
    const from = carriers.length > 0 || me === undefined ? carriers : [me];
    spots.push(person);
    for (const spot of from) {
      lines.push({ key: `${spot.key} ${call.call}`, from: spot, to: person, group: 'call', weight: 0.6 });
    }
  });
}
