import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// In development the API of a running node is passed through: its address is in `api.json` of the data folder.
// The node checks `Host` and `Origin`, so both are rewritten to its own.
const node = process.env['TANDEM_API'] ?? '127.0.0.1:7710';
const proxy = {
  '/api': {
    target: `http://${node}`,
    changeOrigin: true,
    ws: true,
    headers: { origin: `http://${node}` },
  },
};

export default defineConfig({
  plugins: [svelte()],
  base: '/',
  build: {
    target: ['chrome123', 'firefox121', 'safari17.5'],
    // Nothing inside `data:` URLs: the Content-Security-Policy stays short, and each file can be kept by the browser.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy, fs: { allow: ['..'] } },
  preview: { proxy },
  test: {
    include: ['tests/**/*.test.ts'],
    environment: 'node',
  },
});
