// What the tests share: functions only. Every test makes collections and users of its own.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import PocketBase, { ClientResponseError } from 'pocketbase';

const { BASE_URL, SUPERUSER_EMAIL, SUPERUSER_PASSWORD } = process.env;
if (!BASE_URL) throw new Error('BASE_URL, SUPERUSER_EMAIL and SUPERUSER_PASSWORD say what to test; run.mjs sets them');

export const PASSWORD = 'correct-horse';

export function unique(prefix) {
  return `${prefix}_${randomBytes(5).toString('hex')}`;
}

/** A client that nobody is signed in with. */
export function guest() {
  const pb = new PocketBase(BASE_URL);
  pb.autoCancellation(false);
  return pb;
}

export async function superuser() {
  const pb = guest();
  await pb.collection('_superusers').authWithPassword(SUPERUSER_EMAIL, SUPERUSER_PASSWORD);
  return pb;
}

/** Batches are off by default. run.mjs has switched them on, so that tests of settings see no change. */
export async function allowBatches(root) {
  const { batch } = await root.settings.getAll();
  if (!batch.enabled) await root.settings.update({ batch: { enabled: true, maxRequests: 50 } });
}

/** The five rules of a collection, all the same unless told otherwise. */
export function rules(all, others = {}) {
  return { listRule: all, viewRule: all, createRule: all, updateRule: all, deleteRule: all, ...others };
}

/** A base collection, public unless told otherwise. */
export function base(root, prefix, fields, others = {}) {
  return root.collections.create({ name: unique(prefix), type: 'base', fields, ...rules(''), ...others });
}

/** An auth collection where everybody may sign up and see and change themselves. */
export function authCollection(root, others = {}) {
  return root.collections.create({
    name: unique('users'),
    type: 'auth',
    authAlert: { enabled: false },
    fields: [{ name: 'name', type: 'text' }],
    ...rules('id = @request.auth.id', { createRule: '' }),
    ...others,
  });
}

export async function signUp(users, others = {}) {
  const pb = guest();
  const email = `${unique('u')}@example.com`;
  const record = await pb
    .collection(users.name)
    .create({ email, password: PASSWORD, passwordConfirm: PASSWORD, ...others });
  return { pb, email, record };
}

/** A fresh user, signed in. */
export async function signedIn(users, others = {}) {
  const user = await signUp(users, others);
  await user.pb.collection(users.name).authWithPassword(user.email, PASSWORD);
  return { ...user, id: user.record.id };
}

export function text(name, others = {}) {
  return { name, type: 'text', ...others };
}

export function number(name, others = {}) {
  return { name, type: 'number', ...others };
}

export function relation(name, target, others = {}) {
  return { name, type: 'relation', collectionId: target.id, maxSelect: 1, ...others };
}

export function ids(list) {
  return (list.items ?? list).map((record) => record.id);
}

export function pluck(list, field) {
  return (list.items ?? list).map((record) => record[field]);
}

/** The call fails with this status, and with exactly these codes by field. */
export async function refused(promise, status, codes = {}) {
  const error = await promise.then(
    (value) => assert.fail(`not refused: ${JSON.stringify(value)}`),
    (error) => error,
  );
  assert.ok(error instanceof ClientResponseError, String(error));
  assert.equal(error.status, status, JSON.stringify(error.response));
  const got = Object.entries(error.response.data ?? {}).map(([field, { code }]) => [field, code]);
  assert.deepEqual(Object.fromEntries(got), codes);
  return error;
}
