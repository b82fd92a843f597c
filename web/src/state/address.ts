// Addresses of accounts, as in spec/identity.md: what the page must know of them to compare two people's keys.

const LETTERS = 'abcdefghijklmnopqrstuvwxyz234567';
const VERSION = 1;
const KEY_BYTES = 32;
const CHECK_BYTES = 4;

/** The account key in an address or link, or undefined if it is none. The node itself checks everything. */
export async function accountKey(address: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const text = /^tandem:([a-z2-7]{60})/.exec(address)?.[1];
  if (text === undefined) return undefined;
  const bytes = base32(text);
  if (bytes[0] !== VERSION) return undefined;
  const body = bytes.slice(0, 1 + KEY_BYTES);
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', body));
  const check = bytes.slice(1 + KEY_BYTES, 1 + KEY_BYTES + CHECK_BYTES);
  return check.every((byte, at) => byte === digest[at]) ? body.slice(1) : undefined;
}

/** RFC 4648 §6 in lower case and without padding. */
function base32(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(Math.floor((text.length * 5) / 8));
  let bits = 0;
  let held = 0;
  let at = 0;
  for (const letter of text) {
    held = ((held << 5) | LETTERS.indexOf(letter)) & 0xfff;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes[at++] = (held >> bits) & 0xff;
  }
  return bytes;
}

/** What the number of two accounts is made of, so that it is made for nothing else (spec/identity.md). */
const DOMAIN = 'tandem safety number 1';
export const SAFETY_GROUPS = 12;
const GROUP_BYTES = 5;

/** The safety number of two accounts, the same at both: 12 groups of 5 digits. */
export async function safetyNumber(ours: string, theirs: string): Promise<string[] | undefined> {
  const keys = [await accountKey(ours), await accountKey(theirs)];
  const [one, other] = keys;
  if (one === undefined || other === undefined) return undefined;
  const [low, high] = compare(one, other) <= 0 ? [one, other] : [other, one];
  const input = new Uint8Array([...new TextEncoder().encode(DOMAIN), 0, ...low, ...high]);
  const digest = new DataView(await crypto.subtle.digest('SHA-512', input));
  return Array.from({ length: SAFETY_GROUPS }, (_, group) => {
    const at = group * GROUP_BYTES;
    const value = digest.getUint8(at) * 2 ** 32 + digest.getUint32(at + 1);
    return String(value % 100_000).padStart(5, '0');
  });
}

function compare(a: Uint8Array, b: Uint8Array): number {
  const at = a.findIndex((byte, index) => byte !== b[index]);
  return at < 0 ? 0 : (a[at] ?? 0) - (b[at] ?? 0);
}
