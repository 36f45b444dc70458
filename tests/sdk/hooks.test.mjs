// The example of docs/hooks.md, as its reader runs it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { base, guest, number, refused, superuser, text, unique } from './helpers.mjs';

// PocketBase's hooks are code inside the server.
const skip = process.env.SERVER_NAME !== 'groundswell' && 'hooks over HTTP are not in the contract';
const secret = `whsec_${randomBytes(32).toString('base64')}`;
const name = unique('orders').replace('_', '-');
let example, lines, orders, port, root;

before(async () => {
  if (skip) return;
  const program = join(import.meta.dirname, '../../examples/hooks/server.mjs');
  example = spawn(process.execPath, [program], {
    env: { ...process.env, HOOK_SECRET: secret, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  lines = createInterface(example.stdout)[Symbol.asyncIterator]();
  port = (await lines.next()).value.match(/listening on (\d+)/)[1];
  root = await superuser();
  orders = await base(root, 'orders', [text('fruit'), number('amount'), number('total')]);
  await root.send('/api/gs/hooks', {
    method: 'POST',
    body: {
      name,
      url: `http://127.0.0.1:${port}`,
      on: [
        'records.create.before',
        'records.update.before',
        'records.create.after',
        'records.update.after',
        'records.delete.after',
      ],
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
  const error = await refused(guest().collection(orders.name).create({ fruit: 'stone', amount: 1 }), 400, codes);
  assert.deepEqual(error.response.data.fruit, {
    code: 'validation_unknown_fruit',
    message: 'We sell apple and pear.',
  });
});

test('nothing that a client sends evades the price', { skip }, async () => {
  const all = guest().collection(orders.name);
  const order = await all.create({ fruit: 'apple', amount: 3, total: 1, 'total+': 5 });
  assert.equal(order.total, 90);
  const [fruit, amount, whole] = ['validation_unknown_fruit', 'validation_amount', 'validation_whole_order'];
  await refused(all.create({ fruit: 'constructor', amount: 1 }), 400, { fruit });
  await refused(all.create({ fruit: 'apple', amount: -3 }), 400, { amount });
  await refused(all.create({ fruit: 'apple', amount: 0.5 }), 400, { amount });
  await refused(all.create({ fruit: 'apple', amount: 1, 'amount+': 99 }), 400, { amount: whole });
  await refused(all.update(order.id, { 'amount+': 97 }), 400, { fruit: whole });
  await refused(all.update(order.id, { amount: 100 }), 400, { fruit: whole });
  await refused(all.update(order.id, { 'total-': 89 }), 400, { fruit: whole });
  const changed = await all.update(order.id, { fruit: 'pear', amount: '2', total: 1 });
  assert.deepEqual([changed.amount, changed.total], [2, 90]);
});

test('the example outlives an upload that breaks off, and does not refuse what is not signed', { skip }, async () => {
  const socket = connect(port, '127.0.0.1');
  socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{');
  await once(socket, 'connect');
  socket.destroy();
  const answer = await fetch(`http://127.0.0.1:${port}`, { method: 'POST', body: '{}' });
  assert.deepEqual([answer.status, await answer.json()], [401, {}]);
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
