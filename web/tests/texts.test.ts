import { describe, expect, it } from 'vitest';
import { bytes, clock, short } from '../src/texts/format';
import { fill, preferredLanguage, t, tn, useLanguage } from '../src/texts/index.svelte';

describe('texts', () => {
  it('come in the language that is asked for', async () => {
    await useLanguage('de');
    expect(t('page.call.hang_up')).toBe('Auflegen');
    expect(tn('page.path.relays', 2)).toBe('über 2 Relais');
    await useLanguage('en');
    expect(tn('page.path.relays', 1)).toBe('through 1 relay');
    expect(tn('page.path.relays', 2)).toBe('through 2 relays');
  });

  it('have their places filled once: what others wrote is no place', () => {
    expect(fill('{name} is calling', { name: '{name}' })).toBe('{name} is calling');
    expect(fill('{name}', { name: '$& <b>' })).toBe('$& <b>');
    expect(fill('{nothing}', {})).toBe('{nothing}');
  });

  it('follow the browser', () => {
    expect(preferredLanguage(['fr-FR', 'de-AT', 'en'])).toBe('de');
    expect(preferredLanguage(['fr'])).toBe('en');
  });

  it('show amounts and times', () => {
    expect(bytes(999)).toBe('999\u00a0B');
    expect(bytes(1_234_567)).toBe('1.2\u00a0MB');
    expect(clock(3_723_000)).toBe('1:02:03');
    expect(clock(-5)).toBe('0:00');
    expect(short('tandem:abcdefghijklmnopqrst')).toBe('abcd…opqrst');
  });
});
