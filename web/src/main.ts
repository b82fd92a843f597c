import { mount } from 'svelte';
import './app.css';
import App from './App.svelte';
import { place } from './state/route.svelte';
import { prefs } from './state/prefs.svelte';
import { session } from './state/session.svelte';

async function begin(): Promise<void> {
  const target = document.getElementById('page');
  if (target === null) throw new Error('index.html has no place for the page');
  // The words first, so that nothing is shown without them. The token's code leaves the address before anything else.
  const opened = session.begin();
  await prefs.begin();
  place.begin();
  mount(App, { target });
  await opened;
}

void begin();
