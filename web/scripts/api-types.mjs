// Makes src/api/schema.d.ts, the types of the node's API, from src/api/openapi.json; and that from a running node.
//
//   npm run api-types                  types anew from the kept document
//   npm run api-types -- --from URL    the document anew from a node, http://127.0.0.1:7710, then the types
//   npm run check:api [-- --from URL]  says when either is stale
import { readFile, writeFile } from 'node:fs/promises';
import openapiTS, { astToString } from 'openapi-typescript';

const DOCUMENT = new URL('../src/api/openapi.json', import.meta.url);
const TYPES = new URL('../src/api/schema.d.ts', import.meta.url);
const HEAD = '// Made by scripts/api-types.mjs from openapi.json. Do not change by hand.\n';

const check = process.argv.includes('--check');
const at = process.argv.indexOf('--from');
const from = at < 0 ? undefined : process.argv[at + 1];

const stale = [];
if (from !== undefined) {
  const answer = await fetch(new URL('/api/openapi.json', from));
  if (!answer.ok) throw new Error(`the node answered ${answer.status}`);
  const text = JSON.stringify(await answer.json(), null, 1) + '\n';
  await keep(DOCUMENT, text);
}
const document = JSON.parse(await readFile(DOCUMENT, 'utf8'));
// The page uses the types of bodies; names of operations, which need not be unique there, are left out.
for (const path of Object.values(document.paths)) {
  for (const operation of Object.values(path)) delete operation.operationId;
}
await keep(TYPES, HEAD + astToString(await openapiTS(document)));

if (stale.length > 0) {
  console.error(`stale: ${stale.join(', ')}. Run: npm run api-types -- --from http://127.0.0.1:7710`);
  process.exit(1);
}

async function keep(file, text) {
  const before = await readFile(file, 'utf8').catch(() => '');
  if (before === text) return;
  if (check) stale.push(file.pathname.split('/').slice(-3).join('/'));
  else await writeFile(file, text);
}
