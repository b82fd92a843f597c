// What to call whom.
import type { CallSummary } from '../api/types';
import { short } from '../texts/format';
import { t } from '../texts/index.svelte';
import { calls } from './calls.svelte';
import { people } from './people.svelte';

/** The name of the other side of a call: the contact's, else what it calls itself, marked as such, else its address. */
export function callerName(call: CallSummary): string {
  if (isEcho(call)) return t('page.echo.name');
  const contact = call.name ?? people.byAddress(call.address)?.name;
  if (contact !== undefined) return contact;
  const claimed = call.claimed_name ?? calls.callers.get(call.call)?.claimedName ?? '';
  return claimed === '' ? short(call.address) : t('page.claims_to_be', { name: claimed });
}

/** A test call. */
export function isEcho(call: CallSummary): boolean {
  return call.echo === true || calls.echoes.has(call.call);
}
