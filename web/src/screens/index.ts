// Each screen is loaded when it is gone to first.
import type { Component } from 'svelte';
import type { Screen } from '../state/route.svelte';

type Loader = () => Promise<{ default: Component }>;

export const SCREEN_LOADERS: Record<Screen, Loader> = {
  people: () => import('./People.svelte'),
  call: () => import('./Call.svelte'),
  connections: () => import('./Connections.svelte'),
  volunteer: () => import('./Volunteer.svelte'),
  settings: () => import('./Settings.svelte'),
  welcome: () => import('./Welcome.svelte'),
};
