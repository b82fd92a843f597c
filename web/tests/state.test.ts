import { describe, expect, it } from 'vitest';
import { problemOf } from '../src/api/client';
import type { CallSummary, ConnectionView, Contact } from '../src/api/types';
import { hueOf, initials } from '../src/parts/avatar';
import { levelOf } from '../src/sound/meter';
import { accountKey, safetyNumber } from '../src/state/address';
import { advance } from '../src/state/calls.svelte';
import { EchoTest } from '../src/state/echo';
import { days } from '../src/state/ledger';
import { matching } from '../src/state/people.svelte';
import { DRAWN_MOST, picture } from '../src/state/picture';
import { readKept } from '../src/state/prefs.svelte';
import { QualityMeter } from '../src/state/quality';
import { href, parseRoute } from '../src/state/route.svelte';
import { Traffic } from '../src/state/traffic';

const call = (change: Partial<CallSummary> = {}): CallSummary => ({
  call: 'c1',
  address: 'tandem:a',
  direction: 'outgoing',
  state: 'talking',
  started_unix_ms: 0,
  mirroring: false,
  path_changes: [],
  result: {
    connected: true,
    longest_gap_ms: 0,
    packets: { sent: 0, received: 0, lost: 0 },
    relays: [],
    setup_ms: {},
    why: '',
  },
  ...change,
});

const connection = (change: Partial<ConnectionView> = {}): ConnectionView => ({
  peer: 'p',
  role: 'home',
  purpose: '',
  since_unix_ms: 1,
  transport: 'quic',
  remote: '',
  outbound: true,
  bytes_in: 0,
  bytes_out: 0,
  sees: '',
  does_not_see: '',
  ...change,
});

describe('places on the page', () => {
  it('come back from a link as they went in', () => {
    const route = parseRoute(href('people', 'contacts', 'tandem:a/b?c#d%'));
    expect(route).toEqual({ screen: 'people', rest: ['contacts', 'tandem:a/b?c#d%'] });
  });

  it('lead to the people when they are not known', () => {
    for (const fragment of ['', '#', '#/', '#/nothing/x', '#code=abc', '#/__proto__']) {
      expect(parseRoute(fragment).screen).toBe('people');
    }
    expect(parseRoute('#/call/%E0%A4%A').rest).toEqual(['%E0%A4%A']);
  });
});

describe('failures', () => {
  it('are problems only when they are whole', () => {
    expect(problemOf({ error: { code: 'T1', message: 'm', meaning: 'n', action: 'a' } })?.code).toBe('T1');
    expect(problemOf({ error: { code: 'T1', message: 'm' } })?.action).toBe('');
    for (const body of [null, 'text', {}, { error: null }, { error: { code: 7, message: 'm' } }]) {
      expect(problemOf(body)).toBeUndefined();
    }
  });
});

describe('what the browser keeps', () => {
  it('is as at the first time when it cannot be understood', () => {
    for (const text of [null, 'no JSON', '7', '{"theme":"pink","language":"xx","welcomed":"all"}']) {
      expect(readKept(text)).toMatchObject({ theme: 'system', language: 'system', ring: true, welcomed: [] });
    }
    expect(readKept('{"theme":"dark","ring":false}')).toMatchObject({ theme: 'dark', ring: false });
  });
});

describe('a call', () => {
  it('moves on by events before its figures are read', () => {
    const ringing = call({ state: 'looking_up' });
    const next = advance(ringing, { event: 'ringing', call: 'c1', at_unix_ms: 1, after_ms: 1 });
    expect(next.state).toBe('ringing');
    expect(advance(next, { event: 'sound_attached', call: 'c1', at_unix_ms: 1, attachment: 1 })).toBe(next);
  });

  const figures = (received: number, lost: number, concealed: number) =>
    call({ result: { ...call().result, packets: { sent: 0, received, lost }, concealed_ms: concealed } });

  it('is judged by what was lost and made up lately', () => {
    const judge = (received: number, lost: number, concealed: number) => {
      const meter = new QualityMeter();
      meter.add(figures(0, 0, 0), 0);
      meter.add(figures(received, lost, concealed), 3_000);
      return meter.now();
    };
    expect(judge(150, 0, 0)).toBe('good');
    expect(judge(145, 5, 0)).toBe('fair');
    expect(judge(150, 0, 400)).toBe('poor');
    expect(judge(0, 0, 0)).toBe('silent');
  });

  it('recovers: what is long ago does not count', () => {
    const meter = new QualityMeter();
    meter.add(figures(0, 0, 0), 0);
    meter.add(figures(100, 50, 1_000), 3_000);
    expect(meter.now()).toBe('poor');
    meter.add(figures(500, 50, 1_000), 9_500);
    meter.add(figures(700, 50, 1_000), 12_500);
    expect(meter.now()).toBe('good');
  });
});

describe('the test call', () => {
  const run = (said: number[], heard: number[]) => {
    const test = new EchoTest();
    let result = test.add(0, 0, 0);
    said.forEach((level, at) => (result = test.add(level, heard[at] ?? 0, (at + 1) * 100)));
    return result;
  };
  it('works when what was said comes back', () => {
    expect(run(Array<number>(20).fill(0.8), [0, 0, 0, ...Array<number>(17).fill(0.7)])).toBe('works');
  });
  it('tells a dead microphone from a dead line', () => {
    expect(run(Array<number>(70).fill(0), [])).toBe('quiet');
    expect(run(Array<number>(70).fill(0.8), [])).toBe('nothing_back');
  });
});

describe('levels', () => {
  it('go from silence to full scale', () => {
    expect(levelOf(new Float32Array(100))).toBe(0);
    expect(levelOf(new Float32Array(100).fill(1))).toBeCloseTo(1);
    expect(levelOf(new Float32Array())).toBe(0);
  });
});

describe('names', () => {
  it('have up to two letters, whatever they are made of', () => {
    expect(initials('Ada Lovelace')).toBe('AL');
    expect(initials('  ')).toBe('?');
    expect(initials('<script>')).toBe('<');
    expect(initials('👩‍🚀 x')).toContain('X');
    expect(hueOf('tandem:abc')).toBe(hueOf('tandem:abc'));
  });

  it('are found by every word of a search', () => {
    const contact = {
      address: 'tandem:a',
      name: 'Ada Byron',
      note: 'Work',
      blocked: false,
      added_unix_ms: 0,
    } as Contact;
    expect(matching([contact], 'ada work')).toEqual([contact]);
    expect(matching([contact], 'ada home')).toEqual([]);
  });
});

describe('the picture of connections', () => {
  const many = Array.from({ length: 200 }, (_, at) => connection({ role: 'served', peer: `p${at}` }));

  it('stays in its frame, and draws many together', () => {
    for (const [width, height] of [
      [320, 420],
      [1000, 400],
    ] as const) {
      const { spots } = picture([connection(), ...many], [call({ relays_in_use: [] })], width, height);
      expect(spots.every(({ x, y }) => x > 0 && x < width && y > 0 && y < height)).toBe(true);
      expect(spots.filter((spot) => spot.group === 'serve').length).toBe(DRAWN_MOST);
      expect(spots.find((spot) => spot.key === 'serve-rest')?.count).toBe(200 - DRAWN_MOST + 1);
    }
  });

  it('joins the other side to the relays that carry the call', () => {
    const relays = [connection({ role: 'relay', peer: 'r1' }), connection({ role: 'relay', peer: 'r2' })];
    const { lines } = picture(relays, [call({ relays_in_use: ['r2'] })], 800, 400);
    const carrying = lines.filter((line) => line.to.group === 'person');
    expect(carrying.map((line) => line.from.connection?.peer)).toEqual(['r2']);
  });
});

describe('traffic', () => {
  it('is what went since the moment before', () => {
    const traffic = new Traffic();
    traffic.add([connection({ bytes_in: 1_000 })], 0);
    traffic.add(
      [connection({ bytes_in: 2_000 }), connection({ peer: 'new', role: 'relay', bytes_out: 500 })],
      1_000,
    );
    expect(traffic.moments.at(-1)?.rates).toEqual({ home: 8_000, call: 4_000, network: 0, serve: 0 });
    traffic.add([], 2_000);
    expect(traffic.moments.at(-1)?.rates.home).toBe(0);
  });
});

describe('the ledger', () => {
  it('has every day, served or not', () => {
    const line = {
      day: '2026-11-22',
      role: 'relay' as const,
      bytes: 7,
      devices: 0,
      calls: 0,
      circuits: 0,
      lookups: 0,
    };
    const all = days([{ ...line, checks: 0, served_ms: 0 }], 3, Date.parse('2026-11-23T12:00:00Z'));
    expect(all.map((day) => [day.day, day.relay])).toEqual([
      ['2026-11-21', 0],
      ['2026-11-22', 7],
      ['2026-11-23', 0],
    ]);
  });
});

describe('safety numbers', async () => {
  // The vector of spec/identity.md: the accounts whose keys are 32 bytes of 1, and of 2.
  const ONE = await addressOf(1);
  const TWO = await addressOf(2);

  it('are the same at both sides', async () => {
    const number = await safetyNumber(ONE, TWO);
    expect(number).toEqual(await safetyNumber(TWO, ONE));
    expect(number?.join(' ')).toBe('16545 99097 14784 84350 52675 50297 88763 42682 13625 32065 54215 40388');
  });

  it('are made of addresses only whose checksum fits', async () => {
    expect((await accountKey(ONE))?.[0]).toBe(1);
    const last = ONE.endsWith('a') ? 'b' : 'a';
    expect(await accountKey(ONE.slice(0, -1) + last)).toBeUndefined();
    expect(await safetyNumber(ONE, 'tandem:nothing')).toBeUndefined();
  });
});

async function addressOf(fill: number): Promise<string> {
  const body = new Uint8Array([1, ...new Array<number>(32).fill(fill)]);
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', body));
  const bits = [...body, ...digest.slice(0, 4)].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  const letters = bits.padEnd(300, '0').match(/.{5}/g) ?? [];
  return `tandem:${letters.map((five) => 'abcdefghijklmnopqrstuvwxyz234567'[parseInt(five, 2)]).join('')}`;
}
