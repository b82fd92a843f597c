const HUES = 6;

/** Up to two letters of a name, for the round picture beside it. */
export function initials(name: string): string {
  const words = name
    .trim()
    .split(/\s+/)
    .filter((word) => word !== '');
  const first = (word: string | undefined) => (word === undefined ? '' : ([...word][0] ?? ''));
  const letters = first(words[0]) + (words.length > 1 ? first(words.at(-1)) : '');
  return letters === '' ? '?' : letters.toLocaleUpperCase();
}

/** Always the same colour for the same address. */
export function hueOf(address: string): number {
  let sum = 0;
  for (const letter of address) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 100_003;
  return sum % HUES;
}
