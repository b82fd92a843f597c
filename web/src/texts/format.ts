// Moments, lengths of time and amounts, in the language of the page.
import { currentLanguage, formatNumber, t } from './index.svelte';

/** The language of the page, in the way of the person's country where the browser says it. */
function locale(): string {
  const language = currentLanguage();
  const wanted = typeof navigator === 'undefined' ? [] : navigator.languages;
  return wanted.find((tag) => tag.split('-')[0] === language) ?? language;
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const;

/** Bytes as `1.2 MB`, in powers of 1,000. */
export function bytes(amount: number): string {
  let value = amount;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${formatNumber(value, value < 10 && unit > 0 ? 1 : 0)}\u00a0${UNITS[unit]}`;
}

/** Bits per second as `32 kbit/s`. */
export function rate(bitsPerSecond: number): string {
  if (bitsPerSecond >= 1_000_000) return `${formatNumber(bitsPerSecond / 1_000_000, 1)}\u00a0Mbit/s`;
  return `${formatNumber(bitsPerSecond / 1000, bitsPerSecond < 10_000 ? 1 : 0)}\u00a0kbit/s`;
}

/** A length of time as a clock shows it: `1:05`, `1:02:03`. */
export function clock(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (value: number) => String(value).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** A length of time in one unit: `40 s`, `12 min`, `3 h`, `5 d`. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return t('page.span.seconds', { count: seconds });
  if (seconds < 3600) return t('page.span.minutes', { count: Math.floor(seconds / 60) });
  if (seconds < 172_800) return t('page.span.hours', { count: Math.floor(seconds / 3600) });
  return t('page.span.days', { count: formatNumber(Math.floor(seconds / 86_400)) });
}

/** A moment: the time alone if it is of today, else the date with it. */
export function moment(unixMs: number, now = Date.now()): string {
  const date = new Date(unixMs);
  const today = new Date(now).toDateString() === date.toDateString();
  const style: Intl.DateTimeFormatOptions = today
    ? { hour: '2-digit', minute: '2-digit' }
    : { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' };
  if (!today && new Date(now).getFullYear() !== date.getFullYear()) style.year = 'numeric';
  return new Intl.DateTimeFormat(locale(), style).format(date);
}

/** A day. */
export function day(unixMs: number): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: 'medium' }).format(new Date(unixMs));
}

/** A key or address so short that it can be told from others at a glance. */
export function short(key: string): string {
  const bare = key.startsWith('tandem:') ? key.slice(7) : key;
  return bare.length <= 12 ? bare : `${bare.slice(0, 4)}…${bare.slice(-6)}`;
}
