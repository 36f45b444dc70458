// Starts a server, an example behind it and a browser, for one test file, and ends them.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

const root = join(import.meta.dirname, '../..');
const binary = process.env.GROUNDSWELL_BIN ?? join(root, 'target/release/groundswell');
const browserPath = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
const START_LIMIT_MS = 60_000;
const END_LIMIT_MS = 10_000;
const SUPERUSER = { identity: 'root@example.com', password: 'browser-superuser' };

export const USER = { email: 'ann@example.com', password: 'browser-user-1', name: 'Ann' };

/** Why the tests cannot run here, if they cannot. */
export function missing(example) {
  if (!existsSync(browserPath)) return 'chromium is not installed';
  if (!existsSync(join(root, 'examples', example, 'node_modules'))) return `npm ci failed in examples/${example}`;
  return false;
}

export function exampleFolder(example) {
  return join(root, 'examples', example);
}

/**
 * A server whose gateway leads to an example, with one user. `command` starts the example, which prints where it listens.
 * All of it ends with the test `t`.
 */
export async function behindGateway(t, example, command, variables = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'groundswell-browser.'));
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  const config = join(folder, 'groundswell.toml');
  writeFileSync(config, '');
  const made = spawnSync(binary, ['superuser', 'upsert', SUPERUSER.identity, SUPERUSER.password], { cwd: folder });
  if (made.status !== 0) throw new Error(`superuser upsert: ${made.error ?? made.stderr}`);
  const server = run(t, [binary, 'serve', '--http', '127.0.0.1:0', '--config', config], { cwd: folder });
  const url = await announced(server);

  const env = { ...process.env, ...variables, PORT: '0', JWKS_URL: `${url}/.well-known/jwks.json` };
  const app = await announced(run(t, command, { cwd: exampleFolder(example), env }));
  const own = readFileSync(join(exampleFolder(example), 'groundswell.toml'), 'utf8');
  // The server takes the routes while it runs; the keys are there when they are.
  writeFileSync(config, own.replace('http://127.0.0.1:3000', app));
  await until(async () => (await fetch(`${url}/.well-known/jwks.json`)).ok);

  const { token } = await send(url, '/api/collections/_superusers/auth-with-password', SUPERUSER);
  const user = await send(url, '/api/collections/users/records', { ...USER, passwordConfirm: USER.password }, token);
  return { url, user };
}

/** A page of a browser of its own. */
export async function page(t) {
  const profile = mkdtempSync(join(tmpdir(), 'groundswell-chromium.'));
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
  args.push('--disable-component-update', '--disable-sync');
  const context = await chromium.launchPersistentContext(profile, { executablePath: browserPath, headless: true, args });
  t.after(async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  });
  context.setDefaultTimeout(30_000);
  return context.newPage();
}

async function send(url, path, body, token = '') {
  const headers = { 'Content-Type': 'application/json', Authorization: token };
  const answer = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

function run(t, [command, ...args], options) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], ...options });
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    const slow = setTimeout(() => child.kill('SIGKILL'), END_LIMIT_MS);
    await ended;
    clearTimeout(slow);
  });
  return child;
}

/** The first address that a process prints. */
function announced(child) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('it did not start in time')), START_LIMIT_MS);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`it ended with ${code}`)));
    createInterface(child.stdout).on('line', (line) => {
      const port = line.match(/http:\/\/(?:127\.0\.0\.1|localhost):(\d+)/)?.[1];
      if (!port) return;
      clearTimeout(late);
      resolve(`http://127.0.0.1:${port}`);
    });
  });
}

async function until(isSo) {
  const limit = Date.now() + START_LIMIT_MS;
  while (!(await isSo())) {
    if (Date.now() > limit) throw new Error('it did not come to be in time');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
