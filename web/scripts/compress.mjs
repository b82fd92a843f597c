// Puts X.br and X.gz beside each text file X of dist; the node sends what the browser asks for.
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const DIST = new URL('../dist/', import.meta.url);
const TEXT = /\.(html|js|css|svg|json|webmanifest)$/;
/** Smaller files gain nothing. */
const BYTES_LEAST = 600;

for (const name of await readdir(DIST, { recursive: true })) {
  if (!TEXT.test(name)) continue;
  const file = new URL(name, DIST);
  const content = await readFile(file);
  if (content.length < BYTES_LEAST) continue;
  await writeFile(`${file.pathname}.gz`, gzipSync(content, { level: 9 }));
  const best = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: content.length };
  await writeFile(`${file.pathname}.br`, brotliCompressSync(content, { params: best }));
}
