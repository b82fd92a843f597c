// A small network of the real binary on loopback, and a browser to look at a node's page with.
import { spawn, execFile } from 'node:child_process';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

const run = promisify(execFile);
const BINARY = process.env.TANDEM_BIN ?? new URL('../../target/release/tandem', import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const DIST = new URL('../dist/', import.meta.url);
/** Only ends a hang. */
export const PATIENCE_MS = 60_000;

/** The policy of the node, so that a page tried without it obeys the same (crates/tandem-node/src/api). */
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; " +
  "connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; frame-ancestors 'none'; " +
  "base-uri 'none'; form-action 'none'";
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.webmanifest': 'application/manifest+json',
};

const cleanups = [];

export async function end() {
  for (const clean of cleanups.splice(0).reverse()) await clean();
}

/** One `tandem up` in 127.N.0.1, ready to be called. */
export async function up(network, more) {
  const data = await mkdtemp(join(tmpdir(), 'tandem-page-'));
  const ip = `127.${network}.0.1`;
  const listen = 7400 + network * 4;
  const api = await freePort();
  const args = [
    'up',
    '--json',
    '--listen',
    `${ip}:${listen}`,
    '--api',
    `127.0.0.1:${api}`,
    '--data',
    join(data, 'd'),
  ];
  const child = spawn(BINARY, [...args, ...more], { stdio: ['ignore', 'pipe', 'inherit'] });
  cleanups.push(async () => {
    const gone = new Promise((done) => child.once('exit', done));
    if (child.exitCode === null && child.kill('SIGTERM')) await gone;
    await rm(data, { recursive: true, force: true });
  });
  const ready = JSON.parse(await firstLine(child));
  const { token } = JSON.parse(await readFile(join(data, 'd', 'api.json'), 'utf8'));
  const url = `http://127.0.0.1:${api}`;
  return {
    url,
    ready,
    api: async (method, path, body) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
      if (!answer.ok) throw new Error(`${method} ${path}: ${await answer.text()}`);
      return answer.json();
    },
    cli: async (...arguments_) => (await run(BINARY, [...arguments_, '--data', join(data, 'd')])).stdout,
    /** A process that goes on, like a call. */
    begin: (...arguments_) => {
      const child = spawn(BINARY, [...arguments_, '--data', join(data, 'd')], { stdio: 'ignore' });
      const over = new Promise((done) => child.once('exit', done));
      cleanups.push(async () => {
        if (child.exitCode === null && child.kill('SIGTERM')) await over;
      });
      return over;
    },
  };
}

/** Three supernodes that know each other. */
export async function supernodes() {
  const volunteer = ['--volunteer', 'directory,relay', '--accept-terms', '1'];
  const known = [];
  const nodes = [];
  for (const network of [61, 62, 63]) {
    const node = await up(network, [...volunteer, ...bootstrap(known)]);
    known.push(...node.ready.listen.filter((address) => address.includes('quic-v1')));
    nodes.push(node);
  }
  return { known, nodes };
}

export function bootstrap(known) {
  return known.flatMap((address) => ['--bootstrap', address]);
}

/** Where a browser opens the page of a node: the node itself if the page is in it, else a server with web/dist. */
export async function pageOrigin(node) {
  const html = await (await fetch(node.url)).text();
  return html.includes('id="page"') ? node.url : serveDist(node);
}

/** A link that opens the page once. */
export async function pageLink(node, origin) {
  const { url } = await node.api('POST', '/api/page/link', {});
  return url.replace(/^http:\/\/[^/]+/, origin);
}

export async function browser() {
  const started = await chromium.launch({
    executablePath: CHROMIUM,
    args: ['--no-sandbox', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'],
  });
  cleanups.push(() => started.close());
  return started;
}

/** Waits until a question is answered with something. */
export async function until(what, ask) {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    const answer = await ask();
    if (answer) return answer;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`${what} did not come about`);
}

async function serveDist(node) {
  const target = new URL(node.url);
  const server = createServer(async (incoming, answer) => {
    if (incoming.url.startsWith('/api/')) return pass(target, incoming, answer);
    const path = new URL(incoming.url, 'http://x').pathname;
    const name = path === '/' ? 'index.html' : path.slice(1);
    const content = await readFile(new URL(name, DIST)).catch(() => undefined);
    const headers = { 'content-security-policy': CSP, 'content-type': TYPES[extname(name)] ?? 'text/plain' };
    answer.writeHead(content === undefined ? 404 : 200, headers).end(content);
  });
  server.on('upgrade', (incoming, socket, head) => tunnel(target, incoming, socket, head));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

function own(target, headers) {
  const origin = headers.origin === undefined ? {} : { origin: target.origin };
  return { ...headers, ...origin, host: target.host };
}

function pass(target, incoming, answer) {
  const options = { method: incoming.method, headers: own(target, incoming.headers) };
  const outgoing = request(new URL(incoming.url, target), options, (reply) => {
    answer.writeHead(reply.statusCode, reply.headers);
    reply.pipe(answer);
  });
  outgoing.on('error', () => answer.destroy());
  incoming.pipe(outgoing);
}

function tunnel(target, incoming, socket, head) {
  const outgoing = connect(Number(target.port), target.hostname, () => {
    const headers = Object.entries(own(target, incoming.headers)).map(
      ([name, value]) => `${name}: ${value}\r\n`,
    );
    outgoing.write(`GET ${incoming.url} HTTP/1.1\r\n${headers.join('')}\r\n`);
    outgoing.write(head);
    outgoing.pipe(socket).pipe(outgoing);
  });
  outgoing.on('error', () => socket.destroy());
  socket.on('error', () => outgoing.destroy());
}

function firstLine(child) {
  return new Promise((done, failed) => {
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
      const end = text.indexOf('\n');
      if (end >= 0) done(text.slice(0, end));
    });
    child.once('exit', (code) => failed(new Error(`tandem up ended with ${code}`)));
  });
}

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}
