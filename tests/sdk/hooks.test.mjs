// The example of docs/hooks.md, as its reader runs it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { base, guest, number, refused, superuser, text, unique } from './helpers.mjs';

// PocketBase's hooks are code inside the server.
const skip = process.env.SERVER_NAME !== 'groundswell' && 'hooks over HTTP are not in the contract';
const secret = `whsec_${randomBytes(32).toString('base64')}`;
const name = unique('orders').replace('_', '-');
let example, lines, orders, root;

before(async () => {
  if (skip) return;
  const program = join(import.meta.dirname, '../../examples/hooks/server.mjs');
  example = spawn(process.execPath, [program], {
    env: { ...process.env, HOOK_SECRET: secret, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  lines = createInterface(example.stdout)[Symbol.asyncIterator]();
  const port = (await lines.next()).value.match(/listening on (\d+)/)[1];
  root = await superuser();
  orders = await base(root, 'orders', [text('fruit'), number('amount'), number('total')]);
  await root.send('/api/gs/hooks', {
    method: 'POST',
    body: {
      name,
      url: `http://127.0.0.1:${port}`,
      on: ['records.create.before', 'records.create.after', 'records.update.after', 'records.delete.after'],
      collections: [orders.name],
      secrets: [secret],
    },
  });
});

after(async () => {
  if (skip) return;
  await root.send(`/api/gs/hooks/${name}`, { method: 'DELETE' });
  example.kill();
  await once(example, 'exit');
});

test('a hook before a create sets a field', { skip }, async () => {
  const order = await guest().collection(orders.name).create({ fruit: 'apple', amount: 3 });
  assert.equal(order.total, 90);
});

test('a hook before a create refuses with words for a field', { skip }, async () => {
  const codes = { fruit: 'validation_unknown_fruit' };
  const error = await refused(guest().collection(orders.name).create({ fruit: 'stone' }), 400, codes);
  assert.deepEqual(error.response.data.fruit, {
    code: 'validation_unknown_fruit',
    message: 'We sell apple and pear.',
  });
});

test('a hook after a write is told of it, and the delivery is logged', { skip }, async () => {
  const order = await guest().collection(orders.name).create({ fruit: 'pear', amount: 2 });
  await guest().collection(orders.name).delete(order.id);
  const told = [];
  while (told.length < 2) {
    const line = (await lines.next()).value;
    if (line.includes(order.id)) told.push(line.split(' ')[0]);
  }
  assert.deepEqual(told.sort(), ['records.create.after', 'records.delete.after']);
  const log = await root.send(`/api/gs/hooks/${name}/deliveries`, { method: 'GET' });
  assert.ok(log.items.some((attempt) => attempt.recordId === order.id && attempt.status === 200));
});

test('a ping says that the hook answers', { skip }, async () => {
  const answer = await root.send(`/api/gs/hooks/${name}/test`, { method: 'POST' });
  assert.deepEqual([answer.status, answer.error], [200, '']);
});
