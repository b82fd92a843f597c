// What this browser remembers of how the page shall be. Nothing of it is secret, and nothing leaves the browser.
import { LANGUAGES, preferredLanguage, useLanguage, type Language } from '../texts/index.svelte';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const KEY = 'tandem-page';

interface Kept {
  theme: Theme;
  language: Language | 'system';
  microphone: string;
  speaker: string;
  ring: boolean;
  /** Accounts whose first run is over in this browser. */
  welcomed: string[];
}

const WELCOMED_MOST = 20;
const DEFAULTS: Kept = {
  theme: 'system',
  language: 'system',
  microphone: '',
  speaker: '',
  ring: true,
  welcomed: [],
};

/** Reads what was kept; what cannot be understood is as at the first time. */
export function readKept(text: string | null): Kept {
  try {
    const value = JSON.parse(text ?? '{}') as Partial<Record<keyof Kept, unknown>>;
    const string = (found: unknown) => (typeof found === 'string' ? found : '');
    return {
      theme: THEMES.find((theme) => theme === value.theme) ?? DEFAULTS.theme,
      language: LANGUAGES.find((language) => language === value.language) ?? DEFAULTS.language,
      microphone: string(value.microphone),
      speaker: string(value.speaker),
      ring: value.ring !== false,
      welcomed: Array.isArray(value.welcomed)
        ? value.welcomed.filter((address) => typeof address === 'string').slice(-WELCOMED_MOST)
        : [],
    };
  } catch {
    return { ...DEFAULTS };
  }
}

class Prefs {
  kept = $state<Kept>({ ...DEFAULTS });

  async begin(): Promise<void> {
    this.kept = readKept(localStorage.getItem(KEY));
    this.#paint();
    await this.#speak();
  }

  async change(change: Partial<Kept>): Promise<void> {
    this.kept = { ...this.kept, ...change };
    localStorage.setItem(KEY, JSON.stringify(this.kept));
    this.#paint();
    if (change.language !== undefined) await this.#speak();
  }

  welcomed(address: string): boolean {
    return this.kept.welcomed.includes(address);
  }

  async setWelcomed(address: string): Promise<void> {
    if (this.welcomed(address)) return;
    await this.change({ welcomed: [...this.kept.welcomed, address].slice(-WELCOMED_MOST) });
  }

  #paint(): void {
    document.documentElement.dataset['theme'] = this.kept.theme;
  }

  #speak(): Promise<void> {
    const { language } = this.kept;
    return useLanguage(language === 'system' ? preferredLanguage(navigator.languages) : language);
  }
}

export const prefs = new Prefs();
