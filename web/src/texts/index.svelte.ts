// The page's texts, from the one message catalogue (assets/messages). Only the language in use is loaded.
import type english from '../../../assets/messages/en.json';

export type TextKey = keyof typeof english;
type Texts = Record<TextKey, string>;

export const LANGUAGES = ['en', 'de'] as const;
export type Language = (typeof LANGUAGES)[number];
type Values = Record<string, string | number>;

const LOADERS: Record<Language, () => Promise<Texts>> = {
  en: () => import('../../../assets/messages/en.json').then((module) => module.default),
  de: () => import('../../../assets/messages/de.json').then((module) => module.default),
};

let language = $state<Language>('en');
let texts = $state.raw<Partial<Texts>>({});
let plural = new Intl.PluralRules('en');

/** The language of the texts now. */
export function currentLanguage(): Language {
  return language;
}

/** Loads a language and shows everything in it. */
export async function useLanguage(next: Language): Promise<void> {
  texts = await LOADERS[next]();
  plural = new Intl.PluralRules(next);
  language = next;
  if (typeof document !== 'undefined') document.documentElement.lang = next;
}

/** The language that the browser asks for, if there are texts in it; else English. */
export function preferredLanguage(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    const found = LANGUAGES.find((known) => tag.toLowerCase().split('-')[0] === known);
    if (found !== undefined) return found;
  }
  return 'en';
}

/** A text with its places, like `{name}`, filled. */
export function t(key: TextKey, values: Values = {}): string {
  return fill(texts[key] ?? key, values);
}

/** Bases of texts that differ by a number: `page.x.one` and `page.x.other`. */
export type CountKey = TextKey extends infer K ? (K extends `${infer Base}.other` ? Base : never) : never;

/** A text that differs by a number, which fills `{count}`. */
export function tn(base: CountKey, count: number, values: Values = {}): string {
  const form = plural.select(count) === 'one' ? 'one' : 'other';
  return t(`${base}.${form}` as TextKey, { count: formatNumber(count), ...values });
}

export function fill(text: string, values: Values): string {
  return text.replace(/\{(\w+)\}/g, (place, name: string) => {
    const value = values[name];
    return value === undefined ? place : String(value);
  });
}

export function formatNumber(value: number, digits = 0): string {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}
