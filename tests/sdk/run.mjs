// Starts a server on a free port with a temporary data folder, runs the tests against it and stops it:
//   node run.mjs --server groundswell|pocketbase [test file]...
// With GROUNDSWELL_TOPOLOGY=gateway a gateway node stands between the tests and the server.
// The binaries are taken from GROUNDSWELL_BIN and POCKETBASE_BIN, else from their default places in the work tree.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';

const here = import.meta.dirname ?? dirname(new URL(import.meta.url).pathname);
const root = join(here, '../..');
const SERVERS = {
  groundswell: process.env.GROUNDSWELL_BIN ?? join(root, 'target/release/groundswell'),
  pocketbase: process.env.POCKETBASE_BIN ?? join(root, '.tools/venv/bin/pocketbase'),
};
const START_LIMIT_MS = 30_000;
const SUPERUSER_EMAIL = 'root@example.com';
const SUPERUSER_PASSWORD = 'sdk-superuser';

const { values, positionals } = parseArgs({
  options: { server: { type: 'string', default: 'groundswell' } },
  allowPositionals: true,
});
const binary = SERVERS[values.server];
if (!binary) throw new Error(`--server is one of ${Object.keys(SERVERS).join(', ')}`);

const folder = mkdtempSync(join(tmpdir(), 'groundswell-sdk.'));
// One level below: PocketBase keeps its migrations beside the data folder.
const data = join(folder, 'data');
const running = [];

function stop() {
  for (const child of running) child.kill('SIGTERM');
}
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, stop);
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

process.exitCode = await main();

async function main() {
  const made = spawnSync(binary, ['superuser', 'upsert', SUPERUSER_EMAIL, SUPERUSER_PASSWORD, '--dir', data], {
    encoding: 'utf8',
  });
  if (made.status !== 0) throw new Error(`superuser upsert: ${made.error ?? made.stderr}`);

  const hasGateway = values.server === 'groundswell' && process.env.GROUNDSWELL_TOPOLOGY === 'gateway';
  const nodes = { GROUNDSWELL__NODES__KEYS: '7465737420206e6f6465206b6579202d2d2d207465737420206e6f6465206b65' };
  const internal = `127.0.0.1:${hasGateway ? await freePort() : 0}`;
  const server = spawn(binary, ['serve', '--http', '127.0.0.1:0', '--dir', data], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      // The hooks of these tests are on this machine.
      GROUNDSWELL__OUTBOUND__ALLOW: '127.0.0.1',
      ...(hasGateway && { ...nodes, GROUNDSWELL__SERVER__INTERNAL: internal }),
    },
  });
  running.push(server);
  const servers = [server];
  let port = await announced(server);
  if (hasGateway) {
    const gateway = spawn(binary, ['serve', '--http', '127.0.0.1:0', '--manage', '127.0.0.1:0'], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...process.env,
        ...nodes,
        GROUNDSWELL__SERVER__ROLES: 'gateway',
        GROUNDSWELL__GATEWAY__SERVICES__SERVERS: `http://${internal}`,
      },
    });
    running.push(gateway);
    servers.unshift(gateway);
    port = await announced(gateway);
  }
  const baseUrl = `http://127.0.0.1:${port}`;
  await allowBatches(baseUrl);

  const files = positionals.length
    ? positionals
    : readdirSync(here).filter((name) => name.endsWith('.test.mjs')).map((name) => join(here, name));
  const tests = spawn(process.execPath, ['--test', ...files], {
    stdio: 'inherit',
    env: { ...process.env, SERVER_NAME: values.server, BASE_URL: baseUrl, SUPERUSER_EMAIL, SUPERUSER_PASSWORD },
  });
  running.push(tests);
  const code = await ended(tests);
  for (const one of servers) {
    one.kill('SIGTERM');
    await ended(one);
  }
  return code;
}

/** Once for all: settings belong to the whole server. */
async function allowBatches(baseUrl) {
  const send = async (method, path, body, headers = {}) => {
    headers = { 'Content-Type': 'application/json', ...headers };
    const answer = await fetch(baseUrl + path, { method, headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  };
  const who = { identity: SUPERUSER_EMAIL, password: SUPERUSER_PASSWORD };
  const { token } = await send('POST', '/api/collections/_superusers/auth-with-password', who);
  await send('PATCH', '/api/settings', { batch: { enabled: true, maxRequests: 50 } }, { Authorization: token });
}

function ended(child) {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode ?? 1);
  return new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
}

/** The port of the address that the server prints. */
function announced(server) {
  return new Promise((resolve, reject) => {
    const limit = setTimeout(() => reject(new Error('the server did not start in time')), START_LIMIT_MS);
    const settle = (how, what) => {
      clearTimeout(limit);
      how(what);
    };
    server.once('error', (error) => settle(reject, error));
    server.once('exit', (code) => settle(reject, new Error(`the server ended with ${code}`)));
    createInterface(server.stdout).on('line', (line) => {
      const port = line.match(/http:\/\/127\.0\.0\.1:(\d+)/)?.[1];
      // PocketBase prints the 0 it was given; the kernel knows better.
      if (port) settle(resolve, port === '0' ? listeningPort(server.pid) : Number(port));
    });
  });
}

/** A port that nobody listened on a moment ago. */
function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

function listeningPort(pid) {
  const sockets = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return ''; // closed meanwhile
    }
  });
  for (const line of readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1)) {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
    if (state === '0A' && sockets.includes(`socket:[${inode}]`)) return parseInt(local.split(':')[1], 16);
  }
  throw new Error('the server listens on no port');
}
