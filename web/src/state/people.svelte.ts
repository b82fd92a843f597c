// Contacts, requests of strangers and the requests left with others.
import type { Contact, ContactRequest, SentRequest } from '../api/types';
import { notices } from './notices.svelte';
import { client } from './session.svelte';

class People {
  contacts = $state.raw<Contact[]>([]);
  requests = $state.raw<ContactRequest[]>([]);
  sent = $state.raw<SentRequest[]>([]);
  requestsWaiting = $state(0);
  loaded = $state(false);

  async load(): Promise<void> {
    const [contacts] = await Promise.all([client.contacts(), this.loadRequests()]);
    this.contacts = sorted(contacts);
    this.loaded = true;
  }

  async loadRequests(): Promise<void> {
    try {
      [this.requests, this.sent] = await Promise.all([client.requests(), client.sentRequests()]);
    } catch (error) {
      notices.failed(error);
    }
  }

  byAddress(address: string): Contact | undefined {
    return this.contacts.find((contact) => contact.address === address);
  }

  put(contact: Contact): void {
    const others = this.contacts.filter((known) => known.address !== contact.address);
    this.contacts = sorted([...others, contact]);
  }

  drop(address: string): void {
    this.contacts = this.contacts.filter((known) => known.address !== address);
  }

  putSent(request: SentRequest): void {
    this.sent = [request, ...this.sent.filter((known) => known.id !== request.id)];
  }

  dropRequest(id: string): void {
    this.requests = this.requests.filter((request) => request.id !== id);
  }
}

function sorted(contacts: Contact[]): Contact[] {
  return contacts.toSorted((a, b) => a.name.localeCompare(b.name));
}

/** Contacts whose name, note or address has all the words of a search. */
export function matching(contacts: Contact[], search: string): Contact[] {
  const words = search
    .toLocaleLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  return contacts.filter((contact) => {
    const text = `${contact.name} ${contact.note} ${contact.address}`.toLocaleLowerCase();
    return words.every((word) => text.includes(word));
  });
}

export const people = new People();
