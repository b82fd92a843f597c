// The names of the node's API types, as the rest of the page uses them.
import type { components } from './schema';

type Schemas = components['schemas'];

export type Status = Schemas['Status'];
export type Identity = Schemas['Identity'];
export type Problem = Schemas['Problem'];
export type Contact = Schemas['Contact'];
export type NewContact = Schemas['NewContact'];
export type ContactChange = Schemas['ContactChange'];
/** What the page's sound adds to a call. */
export type CallSummary = Omit<Schemas['CallSummary'], 'result'> & {
  /** How much was made up is not known where the browser decodes. */
  result: Omit<Schemas['CallResult'], 'concealed_ms'> & { concealed_ms?: number | null };
  endpoint?: 'file' | 'echo' | 'page';
  attachment?: number | null;
  claimed_name?: string;
  invitation?: string | null;
  echo?: boolean;
};
export type CallEvent = Schemas['CallEvent'] | (SoundStep & { call: string; at_unix_ms: number });
type SoundStep =
  | { event: 'sound_attached'; attachment: number }
  | { event: 'sound_detached'; attachment: number; reason: 'replaced' | 'left' | 'closed' | 'silent' }
  | { event: 'sound_rate'; bits_per_second: number; packet_ms: number };
export type CallState = Schemas['CallState'];
export type CallWhy = Schemas['CallWhy'];
export type EndReason = Schemas['EndReason'];
export type CallStarted = Schemas['CallStarted'];
export type ConnectionView = Schemas['ConnectionView'];
export type ConnectionRole = Schemas['ConnectionRole'];
export type ContactRequest = Schemas['ContactRequest'];
export type SentRequest = Schemas['SentRequest'];
export type InvitationView = Schemas['InvitationView'];
export type InvitationMade = Schemas['InvitationMade'];
export type NewInvitation = Schemas['NewInvitation'];
export type Block = Schemas['Block'];
export type Devices = Schemas['Devices'];
export type DeviceView = Schemas['DeviceView'];
export type NewDevice = Schemas['NewDevice'];
export type NetworkReport = Schemas['NetworkReport'];
export type VolunteerView = Schemas['VolunteerView'];
export type VolunteerRole = Schemas['VolunteerRole'];
export type ServingState = Schemas['ServingState'];
export type CapsChange = Schemas['CapsChange'];
export type LedgerView = Schemas['LedgerView'];
export type LedgerLine = Schemas['LedgerLine'];
export type NodeEvent = Schemas['NodeEvent'];
