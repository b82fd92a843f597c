// Checks the message catalogue: the same keys and places in each language, nothing empty, and no text of the page unused.
import { readdir, readFile } from 'node:fs/promises';

const CATALOGUE = new URL('../../assets/messages/', import.meta.url);
const SOURCE = new URL('../src/', import.meta.url);
const LANGUAGES = ['en', 'de'];

const faults = [];
const [english, ...others] = await Promise.all(
  LANGUAGES.map(async (language) => ({
    language,
    texts: JSON.parse(await readFile(new URL(`${language}.json`, CATALOGUE), 'utf8')),
  })),
);

for (const [key, text] of Object.entries(english.texts)) {
  if (typeof text !== 'string' || text.trim() === '') faults.push(`en: ${key} is empty`);
}
for (const { language, texts } of others) {
  for (const key of Object.keys(english.texts)) {
    if (!(key in texts)) faults.push(`${language}: ${key} is missing`);
    else if (places(texts[key]) !== places(english.texts[key]))
      faults.push(`${language}: ${key} has other places`);
    else if (texts[key].trim() === '') faults.push(`${language}: ${key} is empty`);
  }
  for (const key of Object.keys(texts))
    if (!(key in english.texts)) faults.push(`${language}: ${key} is not in en`);
}

const source = (await sources()).join('\n');
// Whole keys, and the fixed beginning and end of those that are put together; tn() adds the form of a number.
const whole = new Set([...source.matchAll(/['"`](page\.[\w.]+)['"`]/g)].map((found) => found[1]));
const built = [...source.matchAll(/`(page\.[\w.]*)\$\{[^`}]*\}([\w.]*)`/g)].map(([, begin, end]) => [
  begin,
  end,
]);
for (const key of Object.keys(english.texts).filter((key) => key.startsWith('page.'))) {
  const base = key.replace(/\.(one|other)$/, '');
  const used = whole.has(key) || whole.has(base) || built.some(([begin, end]) => isBuilt(key, begin, end));
  if (!used) faults.push(`${key} is not used`);
}

for (const fault of faults) console.error(fault);
if (faults.length > 0) process.exit(1);
console.log(`${Object.keys(english.texts).length} texts in ${LANGUAGES.length} languages`);

function isBuilt(key, begin, end) {
  return (
    key.startsWith(begin) &&
    key.endsWith(end) &&
    !key.slice(begin.length, key.length - end.length).includes('.')
  );
}

function places(text) {
  return [...text.matchAll(/\{(\w+)\}/g)]
    .map((found) => found[1])
    .sort()
    .join();
}

async function sources() {
  const names = await readdir(SOURCE, { recursive: true });
  const code = names.filter((name) => /\.(ts|svelte)$/.test(name) && !name.endsWith('schema.d.ts'));
  return Promise.all(code.map((name) => readFile(new URL(name, SOURCE), 'utf8')));
}
