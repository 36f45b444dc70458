// A page of an Express app behind the gateway: signed in through the SDK, the app knows who calls.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { USER, behindGateway, missing, page } from './helpers.mjs';

test('an Express app reads its caller from the forwarded token', { skip: missing('express') }, async (t) => {
  const { url, user } = await behindGateway(t, 'express', [process.execPath, 'server.mjs']);
  const tab = await page(t);
  await tab.goto(`${url}/shop/`);
  await tab.fill('[name=item]', 'apples');
  await tab.click('#add button');
  await tab.waitForFunction(() => document.querySelector('#says').textContent.startsWith('401'));

  await tab.fill('[name=email]', USER.email);
  await tab.fill('[name=password]', USER.password);
  await tab.click('#sign-in button');
  await tab.waitForFunction(() => document.querySelector('#says').textContent === 'ann@example.com: nothing yet');
  await tab.fill('[name=item]', 'pears');
  await tab.click('#add button');
  await tab.waitForFunction(() => document.querySelector('#says').textContent === 'ann@example.com: pears');

  const seen = await tab.evaluate(async () => {
    const { token } = JSON.parse(localStorage.getItem('pocketbase_auth'));
    const answer = await fetch('./cart', { headers: { Authorization: `Bearer ${token}` } });
    return (await answer.json()).of;
  });
  assert.deepEqual(seen, { sub: user.id, collection: 'users', email: USER.email });
});
