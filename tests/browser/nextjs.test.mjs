// Pages of a Next.js app behind the gateway: signed in through the SDK, the server knows for whom it makes them.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

import { USER, behindGateway, exampleFolder, missing, page } from './helpers.mjs';

const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1' };

test('a Next.js app reads its caller from the forwarded token', { skip: missing('nextjs') }, async (t) => {
  const folder = exampleFolder('nextjs');
  const next = join(folder, 'node_modules/next/dist/bin/next');
  const built = spawnSync(process.execPath, [next, 'build'], { cwd: folder, env, encoding: 'utf8' });
  assert.equal(built.status, 0, `${built.stdout}${built.stderr}`);

  const start = [process.execPath, next, 'start', '--hostname', '127.0.0.1', '--port', '0'];
  const { url, user } = await behindGateway(t, 'nextjs', start, { NEXT_TELEMETRY_DISABLED: '1' });
  const tab = await page(t);
  await tab.goto(`${url}/app`);
  await tab.fill('[name=email]', USER.email);
  await tab.fill('[name=password]', USER.password);
  await tab.click('form button');
  await tab.waitForSelector('h1');
  assert.equal(await tab.textContent('h1'), 'Hello, Ann');
  assert.equal(await tab.textContent('#caller'), `users/${user.id}`);

  const answer = await tab.evaluate(async () => (await fetch('/app/me')).json());
  assert.deepEqual([answer.caller.email, answer.caller.aud, answer.cookie], [USER.email, 'pages', null]);
  // Made on the server also for somebody who comes anew.
  await tab.reload();
  assert.equal(await tab.textContent('h1'), 'Hello, Ann');

  await tab.click('#sign-out');
  await tab.waitForSelector('[name=email]');
  const guest = await tab.evaluate(async () => (await fetch('/app/me')).json());
  assert.equal(guest.caller, null);
});
