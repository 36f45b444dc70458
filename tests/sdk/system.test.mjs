import assert from 'node:assert/strict';
import { test } from 'node:test';
import { authCollection, guest, refused, signedIn, superuser, unique } from './helpers.mjs';

test('health is told to everybody, its details to superusers', async () => {
  const plain = await guest().health.check();
  assert.deepEqual([plain.code, plain.data], [200, {}]);
  const full = await (await superuser()).health.check();
  assert.equal(full.data.canBackup, true);
});

test('settings are read, changed in part and keep the rest', async () => {
  const root = await superuser();
  const before = await root.settings.getAll();
  const appName = unique('App');
  const after = await root.settings.update({ meta: { appName } });
  assert.deepEqual(after, { ...before, meta: { ...before.meta, appName } });
  assert.deepEqual(await root.settings.getAll(), after);
  await root.settings.update({ meta: { appName: before.meta.appName } });
});

test('faulty settings are refused with a code by field', async () => {
  const root = await superuser();
  const error = await root.settings.update({ meta: { appName: '', appURL: 'nowhere' } }).catch((error) => error);
  assert.equal(error.status, 400);
  assert.equal(error.response.data.meta.appName.code, 'validation_required');
  assert.equal(error.response.data.meta.appURL.code, 'validation_is_url');
});

test('settings are for superusers only', async () => {
  const root = await superuser();
  const { pb } = await signedIn(await authCollection(root));
  await refused(guest().settings.getAll(), 401);
  await refused(pb.settings.getAll(), 403);
  await refused(pb.settings.update({ meta: { appName: 'mine' } }), 403);
});

test('superusers are made and kept by superusers', async () => {
  const root = await superuser();
  const superusers = root.collection('_superusers');
  const email = `${unique('second')}@example.com`;
  const second = await superusers.create({ email, password: 'correct-horse', passwordConfirm: 'correct-horse' });
  const pb = guest();
  await pb.collection('_superusers').authWithPassword(email, 'correct-horse');
  assert.equal(pb.authStore.isSuperuser, true);
  assert.ok((await pb.collections.getList(1, 1)).totalItems > 0);
  assert.equal(await superusers.delete(second.id), true);
  await refused(pb.collections.getList(1, 1), 401);
  await refused(guest().collection('_superusers').getList(), 403);
});
