import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PASSWORD, authCollection, guest, ids, refused, rules, signUp, signedIn, superuser, text, unique } from './helpers.mjs';

async function newUsers(others) {
  const root = await superuser();
  return { root, users: await authCollection(root, others) };
}

test('a user signs up, signs in and sees the own record', async () => {
  const { users } = await newUsers();
  const { pb, email, record } = await signUp(users, { name: 'Ann' });
  assert.equal(pb.authStore.isValid, false);
  assert.ok(!('password' in record) && !('tokenKey' in record));
  const answer = await pb.collection(users.name).authWithPassword(email, PASSWORD);
  assert.equal(answer.record.id, record.id);
  assert.equal(answer.record.email, email);
  assert.equal(pb.authStore.isValid, true);
  assert.equal(pb.authStore.isSuperuser, false);
  assert.equal((await pb.collection(users.name).getOne(record.id)).name, 'Ann');
});

test('the token names its record and collection and ends when the collection says', async () => {
  const { users } = await newUsers();
  const { pb, id } = await signedIn(users);
  const claims = JSON.parse(Buffer.from(pb.authStore.token.split('.')[1], 'base64url'));
  assert.deepEqual([claims.id, claims.collectionId, claims.type, claims.refreshable], [id, users.id, 'auth', true]);
  assert.ok(Math.abs(claims.exp - Date.now() / 1000 - 432000) < 60);
});

test('a wrong password and an unknown user get the same answer', async () => {
  const { users } = await newUsers();
  const { email } = await signUp(users);
  const attempt = (identity, password) => guest().collection(users.name).authWithPassword(identity, password);
  const wrong = await refused(attempt(email, 'wrong-horse'), 400);
  const unknown = await refused(attempt('nobody@example.com', PASSWORD), 400);
  assert.deepEqual(wrong.response, unknown.response);
  await refused(attempt(email, ''), 400, { password: 'validation_required' });
});

test('faulty sign-ups are refused with a code by field', async () => {
  const { users } = await newUsers();
  const { email } = await signUp(users);
  const create = (others) => guest().collection(users.name).create({ email: 'x@example.com', password: PASSWORD, passwordConfirm: PASSWORD, ...others });
  await refused(create({ email }), 400, { email: 'validation_not_unique' });
  await refused(create({ email: 'nobody' }), 400, { email: 'validation_is_email' });
  await refused(create({ password: 'short', passwordConfirm: 'short' }), 400, { password: 'validation_min_text_constraint' });
  await refused(create({ passwordConfirm: 'other-horse' }), 400, { passwordConfirm: 'validation_values_mismatch' });
});

test('refresh gives a token that works', async () => {
  const { users } = await newUsers();
  const { pb, id } = await signedIn(users);
  const { record, token } = await pb.collection(users.name).authRefresh();
  assert.equal(record.id, id);
  assert.equal(pb.authStore.token, token);
  await pb.collection(users.name).getOne(id);
  await refused(guest().collection(users.name).authRefresh(), 401);
});

test('a superuser impersonates a user, with a token that is not renewed', async () => {
  const { root, users } = await newUsers();
  const { id, pb } = await signedIn(users);
  const as = await root.collection(users.name).impersonate(id, 60);
  as.autoCancellation(false);
  assert.equal(as.authStore.record.id, id);
  const token = as.authStore.token;
  assert.deepEqual(ids(await as.collection(users.name).getFullList()), [id]);
  await as.collection(users.name).authRefresh();
  assert.equal(as.authStore.token, token);
  await refused(pb.collection(users.name).impersonate(id, 60), 403);
});

test('the auth store follows updates and the deletion of the own record', async () => {
  const { users } = await newUsers();
  const { pb, id } = await signedIn(users, { name: 'before' });
  await pb.collection(users.name).update(id, { name: 'after' });
  assert.equal(pb.authStore.record.name, 'after');
  assert.equal(await pb.collection(users.name).delete(id), true);
  assert.equal(pb.authStore.isValid, false);
  assert.equal(pb.authStore.record, null);
});

test('a new password wants the old one and ends every token', async () => {
  const { users } = await newUsers();
  const { pb, id, email } = await signedIn(users);
  const next = { password: 'battery-staple', passwordConfirm: 'battery-staple' };
  const change = (others) => pb.collection(users.name).update(id, { ...next, ...others });
  await refused(change({}), 400, { oldPassword: 'validation_required' });
  await refused(change({ oldPassword: 'wrong-horse' }), 400, { oldPassword: 'validation_invalid_old_password' });
  await change({ oldPassword: PASSWORD });
  await refused(pb.collection(users.name).authRefresh(), 401);
  await refused(pb.collection(users.name).getOne(id), 404);
  await refused(guest().collection(users.name).authWithPassword(email, PASSWORD), 400);
  await guest().collection(users.name).authWithPassword(email, next.password);
});

test('users cannot change their email or verify themselves', async () => {
  const { users } = await newUsers();
  const { pb, id } = await signedIn(users);
  const update = (body) => pb.collection(users.name).update(id, body);
  await refused(update({ email: 'new@example.com' }), 400, { email: 'validation_values_mismatch' });
  await refused(update({ verified: true }), 400, { verified: 'validation_values_mismatch' });
});

test('superusers change email, verified and password as they like', async () => {
  const { root, users } = await newUsers();
  const { id, pb } = await signedIn(users);
  const email = `${unique('new')}@example.com`;
  const changed = await root.collection(users.name).update(id, { email, verified: true, password: 'battery-staple', passwordConfirm: 'battery-staple' });
  assert.deepEqual([changed.email, changed.verified], [email, true]);
  await refused(pb.collection(users.name).authRefresh(), 401);
  await guest().collection(users.name).authWithPassword(email, 'battery-staple');
});

test('an email is seen by its owner and superusers, by others only when it is visible', async () => {
  const { root, users } = await newUsers(rules('', {}));
  const [shy, open] = [await signedIn(users), await signedIn(users, { emailVisibility: true })];
  const seen = async (pb, of) => (await pb.collection(users.name).getOne(of.id)).email;
  assert.equal(await seen(open.pb, shy), undefined);
  assert.equal(await seen(shy.pb, open), open.email);
  assert.equal(await seen(shy.pb, shy), shy.email);
  assert.equal(await seen(root, shy), shy.email);
  assert.equal(await seen(guest(), shy), undefined);
  const byEmail = (pb) => pb.collection(users.name).getFullList({ filter: `email = '${shy.email}'` });
  assert.equal((await byEmail(open.pb)).length, 0);
  assert.equal((await byEmail(root)).length, 1);
});

test('a manager sees emails and changes email and password without the old one', async () => {
  const { users } = await newUsers({
    fields: [text('role')],
    ...rules('@request.auth.id != ""', { createRule: '' }),
    manageRule: '@request.auth.role = "manager"',
  });
  const [manager, worker, other] = [await signedIn(users, { role: 'manager' }), await signedIn(users), await signedIn(users)];
  assert.equal((await manager.pb.collection(users.name).getOne(worker.id)).email, worker.email);
  assert.ok(!('email' in (await other.pb.collection(users.name).getOne(worker.id))));
  const email = `${unique('moved')}@example.com`;
  const next = { email, password: 'battery-staple', passwordConfirm: 'battery-staple' };
  const refusal = await other.pb.collection(users.name).update(worker.id, next).catch((error) => error);
  assert.equal(refusal.status, 400);
  await manager.pb.collection(users.name).update(worker.id, next);
  await guest().collection(users.name).authWithPassword(email, 'battery-staple');
});

test('the auth rule says who may sign in', async () => {
  const { root, users } = await newUsers({ authRule: 'verified = true' });
  const { pb, email, record } = await signUp(users);
  await refused(pb.collection(users.name).authWithPassword(email, PASSWORD), 403);
  await root.collection(users.name).update(record.id, { verified: true });
  await pb.collection(users.name).authWithPassword(email, PASSWORD);
});

test('users sign in by another unique field, where the collection says so', async () => {
  const root = await superuser();
  const name = unique('named');
  await authCollection(root, {
    name,
    fields: [text('nick', { required: true })],
    indexes: [`CREATE UNIQUE INDEX \`idx_nick_${name}\` ON \`${name}\` (\`nick\`)`],
    passwordAuth: { enabled: true, identityFields: ['email', 'nick'] },
  });
  const nick = unique('ann');
  const { pb, email } = await signUp({ name }, { nick });
  assert.equal((await pb.collection(name).authWithPassword(nick, PASSWORD)).record.nick, nick);
  await pb.collection(name).authWithPassword(email, PASSWORD);
  await refused(pb.collection(name).authWithPassword(nick, PASSWORD, { body: { identity: nick, password: PASSWORD, identityField: 'email' } }), 400);
});

test('auth methods tell what a collection offers', async () => {
  const { root, users } = await newUsers();
  const methods = await guest().collection(users.name).listAuthMethods();
  assert.deepEqual(methods.password, { enabled: true, identityFields: ['email'] });
  assert.deepEqual([methods.oauth2.enabled, methods.otp.enabled, methods.mfa.enabled], [false, false, false]);
  await root.collections.update(users.name, { passwordAuth: { enabled: false } });
  assert.equal((await guest().collection(users.name).listAuthMethods()).password.enabled, false);
  await refused(guest().collection(users.name).authWithPassword('a@example.com', PASSWORD), 403);
});

test('a forged or foreign token is that of a guest', async () => {
  const { root, users } = await newUsers();
  const { pb, id } = await signedIn(users);
  const stranger = await signedIn(await authCollection(root));
  await refused(stranger.pb.collection(users.name).getOne(id), 404);
  await refused(stranger.pb.collection(users.name).authRefresh(), 403);
  const [header, , signature] = pb.authStore.token.split('.');
  const claims = { id, collectionId: users.id, type: 'auth', refreshable: true, exp: 4e9 };
  pb.authStore.save([header, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join('.'));
  await refused(pb.collection(users.name).getOne(id), 404);
});
