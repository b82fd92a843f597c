// The first load: everything that the page fetches before its first screen stands, compressed. Over the limit is a fault.
import { readdir, readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';

const BYTES_MOST = 200_000;
const DIST = new URL('../dist/', import.meta.url);

const html = await readFile(new URL('index.html', DIST), 'utf8');
const named = [...html.matchAll(/(?:src|href)="\/(assets\/[^"]+)"/g)].map((found) => found[1]);
const assets = await readdir(new URL('assets/', DIST));
// Of the parts loaded later: the largest screen with what it shares, and the larger language.
const later = assets.filter((name) => /\.(js|css)$/.test(name)).map((name) => `assets/${name}`);
const chunks = await Promise.all(
  later.filter((name) => !named.includes(name)).map(async (name) => [name, await size(name)]),
);
const first =
  (await Promise.all(named.map(size))).reduce((sum, bytes) => sum + bytes, 0) + gzipSync(html).length;
const all = chunks.reduce((sum, [, bytes]) => sum + bytes, first);

for (const [name, bytes] of chunks.sort((a, b) => b[1] - a[1]))
  console.log(`${String(bytes).padStart(8)}  ${name}`);
console.log(`${String(first).padStart(8)}  before any screen, with the page itself`);
console.log(`${String(all).padStart(8)}  everything there is, both languages and all screens`);
// Even everything together stays under the limit of the first load, so no choice of screen can go over it.
if (all > BYTES_MOST) {
  console.error(`more than ${BYTES_MOST} bytes`);
  process.exit(1);
}

async function size(name) {
  return gzipSync(await readFile(new URL(name, DIST)), { level: 9 }).length;
}
