// Requests to the node. Each function is one route of its API; the types come from its OpenAPI document.
import type {
  Block,
  CallStarted,
  CallSummary,
  CallWhy,
  CapsChange,
  ConnectionView,
  Contact,
  ContactChange,
  ContactRequest,
  Devices,
  DeviceView,
  Identity,
  InvitationMade,
  InvitationView,
  LedgerView,
  NetworkReport,
  NewContact,
  NewDevice,
  NewInvitation,
  Problem,
  SentRequest,
  Status,
  VolunteerRole,
  VolunteerView,
} from './types';

/** The node answered that something is wrong, in its own words. */
export class Refused extends Error {
  constructor(
    readonly problem: Problem,
    readonly status: number,
  ) {
    super(problem.message);
  }
}

/** The node's side of an attachment of sound. */
export interface SoundAnswer {
  sdp: string;
  attachment: number;
}

/** The node did not answer at all. */
export class Unreachable extends Error {}

/** Longer than the node's own limit of 30 s, so that its words arrive where it has some. */
const PATIENCE_MS = 35_000;

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/** Talks to the node that served this page, with the token of this session. */
export class Client {
  /** Called when the node says that the token is wrong. */
  onUnauthorised: () => void = () => undefined;
  #token = '';

  setToken(token: string): void {
    this.#token = token;
  }

  // ---- this page
  openSession = (code: string) => this.#send<{ token: string }>('POST', '/page/session', { code }, false);

  // ---- the node
  status = () => this.#send<Status>('GET', '/status');
  identity = () => this.#send<Identity>('GET', '/identity');
  connections = () => this.#send<ConnectionView[]>('GET', '/connections');
  network = () => this.#send<NetworkReport>('GET', '/network');

  // ---- people
  contacts = () => this.#send<Contact[]>('GET', '/contacts');
  addContact = (contact: NewContact) => this.#send<Contact>('POST', '/contacts', contact);
  changeContact = (who: string, change: ContactChange) =>
    this.#send<Contact>('PATCH', `/contacts/${part(who)}`, change);
  removeContact = (who: string) => this.#send<null>('DELETE', `/contacts/${part(who)}`);
  requests = () => this.#send<ContactRequest[]>('GET', '/requests');
  sentRequests = () => this.#send<SentRequest[]>('GET', '/requests/sent');
  leaveRequest = (address: string, message: string, name: string) =>
    this.#send<SentRequest>('POST', '/requests', { address, message, name });
  acceptRequest = (id: string, name: string) =>
    this.#send<Contact>('POST', `/requests/${part(id)}/accept`, name === '' ? {} : { name });
  declineRequest = (id: string) => this.#send<null>('POST', `/requests/${part(id)}/decline`);
  clearRequests = () => this.#send<{ count: number }>('POST', '/requests/clear');
  blocks = () => this.#send<Block[]>('GET', '/blocks');
  block = (address: string) => this.#send<Block>('POST', '/blocks', { address });
  unblock = (who: string) => this.#send<null>('DELETE', `/blocks/${part(who)}`);
  invitations = () => this.#send<InvitationView[]>('GET', '/invitations');
  invite = (invitation: NewInvitation) => this.#send<InvitationMade>('POST', '/invitations', invitation);
  revokeInvitation = (id: number) => this.#send<null>('DELETE', `/invitations/${id}`);

  // ---- calls
  calls = (limit: number) => this.#send<CallSummary[]>('GET', `/calls?limit=${limit}`);
  placeCall = (address: string) => this.#send<CallStarted>('POST', '/calls', { address, endpoint: 'page' });
  placeEcho = () => this.#send<CallStarted>('POST', '/echo', { endpoint: 'page' });
  answer = (call: string) =>
    this.#send<CallSummary>('POST', `/calls/${part(call)}/answer`, { endpoint: 'page' });
  decline = (call: string) => this.#send<CallSummary>('POST', `/calls/${part(call)}/decline`);
  hangUp = (call: string) => this.#send<CallSummary>('POST', `/calls/${part(call)}/hangup`);
  why = (call: string) => this.#send<CallWhy>('GET', `/calls/${part(call)}/why`);
  /** Gives the page's WebRTC offer; the answer is the node's. `lan`: with a candidate outside loopback. */
  sound = (call: string, sdp: string, lan: boolean) =>
    this.#send<SoundAnswer>('POST', `/calls/${part(call)}/sound`, { type: 'offer', sdp, lan });

  // ---- devices
  devices = () => this.#send<Devices>('GET', '/devices');
  addDevice = (device: NewDevice) => this.#send<DeviceView>('POST', '/devices', device);
  renameDevice = (device: string, label: string) =>
    this.#send<DeviceView>('PATCH', `/devices/${part(device)}`, { label });
  revokeDevice = (device: string) => this.#send<DeviceView>('DELETE', `/devices/${part(device)}`);

  // ---- volunteering
  volunteer = () => this.#send<VolunteerView>('GET', '/volunteer');
  agree = (terms: number, roles: VolunteerRole[]) =>
    this.#send<VolunteerView>('PUT', '/volunteer/consent', { terms, roles });
  withdraw = () => this.#send<VolunteerView>('DELETE', '/volunteer');
  setCaps = (caps: CapsChange) => this.#send<VolunteerView>('PUT', '/volunteer/caps', caps);
  ledger = (days: number) => this.#send<LedgerView>('GET', `/volunteer/ledger?days=${days}`);

  async #send<T>(method: Method, path: string, body?: unknown, withToken = true): Promise<T> {
    const headers: Record<string, string> = { accept: 'application/json' };
    if (withToken) headers['authorization'] = `Bearer ${this.#token}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    const request: RequestInit = {
      method,
      headers,
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      signal: AbortSignal.timeout(PATIENCE_MS),
    };
    if (body !== undefined) request.body = JSON.stringify(body);
    const [answer, value] = await exchange(`/api${path}`, request);
    if (answer.ok) return value as T;
    if (answer.status === 401 && withToken) this.onUnauthorised();
    const problem = problemOf(value);
    // Without words of the node's it was not the node that answered.
    if (problem === undefined) throw new Unreachable(`status ${answer.status}`);
    throw new Refused(problem, answer.status);
  }
}

async function exchange(path: string, request: RequestInit): Promise<[Response, unknown]> {
  try {
    const answer = await fetch(path, request);
    const text = await answer.text();
    return [answer, text === '' ? null : (JSON.parse(text) as unknown)];
  } catch (error) {
    throw new Unreachable(error instanceof Error ? error.message : String(error));
  }
}

/** The problem in the body of a failure, if there is one. */
export function problemOf(body: unknown): Problem | undefined {
  if (typeof body !== 'object' || body === null || !('error' in body)) return undefined;
  const error = body.error;
  if (typeof error !== 'object' || error === null) return undefined;
  const { code, message, meaning, action } = error as Record<string, unknown>;
  if (typeof code !== 'string' || typeof message !== 'string') return undefined;
  return {
    code,
    message,
    meaning: typeof meaning === 'string' ? meaning : '',
    action: typeof action === 'string' ? action : '',
  };
}

function part(text: string): string {
  return encodeURIComponent(text);
}
