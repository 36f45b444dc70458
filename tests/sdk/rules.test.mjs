import assert from 'node:assert/strict';
import { test } from 'node:test';
import { authCollection, base, guest, ids, refused, relation, rules, signedIn, superuser, text } from './helpers.mjs';

/** Two users and a collection where everybody has only what is their own; one record each. */
async function twoUsers() {
  const root = await superuser();
  const users = await authCollection(root);
  const own = 'owner = @request.auth.id && @request.auth.id != ""';
  const notes = await base(root, 'notes', [text('title'), relation('owner', users)], rules(own));
  const [ann, bob] = [await signedIn(users), await signedIn(users)];
  for (const user of [ann, bob]) {
    user.notes = user.pb.collection(notes.name);
    user.note = await user.notes.create({ title: 'mine', owner: user.id });
  }
  return { root, users, notes, ann, bob, nobody: guest().collection(notes.name) };
}

test('a list holds what is the caller’s own', async () => {
  const { root, notes, ann, bob, nobody } = await twoUsers();
  const list = await ann.notes.getList();
  assert.deepEqual([ids(list), list.totalItems], [[ann.note.id], 1]);
  assert.deepEqual(ids(await ann.notes.getFullList({ filter: `owner = '${bob.id}'` })), []);
  assert.deepEqual(ids(await nobody.getFullList()), []);
  assert.equal((await root.collection(notes.name).getFullList()).length, 2);
});

test('another’s record is not found, by view, update or delete', async () => {
  const { ann, bob, nobody } = await twoUsers();
  for (const caller of [bob.notes, nobody]) {
    await refused(caller.getOne(ann.note.id), 404);
    await refused(caller.update(ann.note.id, { title: 'taken' }), 404);
    await refused(caller.delete(ann.note.id), 404);
  }
  assert.equal((await ann.notes.getOne(ann.note.id)).title, 'mine');
  assert.equal((await ann.notes.update(ann.note.id, { title: 'changed' })).title, 'changed');
  assert.equal(await ann.notes.delete(ann.note.id), true);
});

test('nothing can be created for another, and the refusal tells nothing', async () => {
  const { ann, bob, nobody } = await twoUsers();
  await refused(bob.notes.create({ title: 'x', owner: ann.id }), 400);
  await refused(bob.notes.create({ title: 'x' }), 400);
  await refused(nobody.create({ title: 'x', owner: ann.id }), 400);
});

test('an update rule sees the stored row, and the new one in @request.body', async () => {
  const { root, notes, ann, bob } = await twoUsers();
  assert.equal((await ann.notes.update(ann.note.id, { owner: bob.id })).owner, bob.id);
  const kept = 'owner = @request.auth.id && (@request.body.owner:isset = false || @request.body.owner = @request.auth.id)';
  await root.collections.update(notes.name, { updateRule: kept });
  await refused(bob.notes.update(bob.note.id, { owner: ann.id }), 404);
  assert.equal((await bob.notes.update(bob.note.id, { title: 'x', owner: bob.id })).title, 'x');
  const unchanged = 'owner = @request.auth.id && @request.body.title:changed = false';
  await root.collections.update(notes.name, { updateRule: unchanged });
  await refused(bob.notes.update(bob.note.id, { title: 'y' }), 404);
  await bob.notes.update(bob.note.id, { title: 'x' });
});

test('a rule of null is for superusers only, whoever asks', async () => {
  const root = await superuser();
  const locked = await base(root, 'locked', [text('title')], rules(null));
  const { pb } = await signedIn(await authCollection(root));
  const { id } = await root.collection(locked.name).create({ title: 'secret' });
  for (const caller of [guest(), pb]) {
    const records = caller.collection(locked.name);
    await refused(records.getList(), 403);
    await refused(records.getOne(id), 403);
    await refused(records.create({}), 403);
    await refused(records.update(id, {}), 403);
    await refused(records.delete(id), 403);
  }
});

test('a public list with writes for the signed-in', async () => {
  const root = await superuser();
  const wall = await base(root, 'wall', [text('title')], { createRule: '@request.auth.id != ""' });
  const { pb } = await signedIn(await authCollection(root));
  await refused(guest().collection(wall.name).create({ title: 'x' }), 400);
  await pb.collection(wall.name).create({ title: 'x' });
  assert.equal((await guest().collection(wall.name).getList()).totalItems, 1);
});

test('a rule that fails hides the faults of the body', async () => {
  const root = await superuser();
  const made = await base(root, 'hiding', [text('title', { required: true })], { createRule: '@request.auth.id != ""' });
  await refused(guest().collection(made.name).create({}), 400);
  await refused(root.collection(made.name).create({}), 400, { title: 'validation_required' });
});

test('rules go through memberships: back-relations and @collection', async () => {
  const root = await superuser();
  const users = await authCollection(root);
  const teams = await base(root, 'teams', [text('name')]);
  const members = await base(root, 'members', [relation('team', teams), relation('user', users)]);
  await root.collections.update(teams.name, { listRule: `${members.name}_via_team.user ?= @request.auth.id` });
  const joined = `@collection.${members.name}.team ?= id && @collection.${members.name}.user ?= @request.auth.id`;
  await root.collections.update(teams.name, { viewRule: joined });
  const [ann, bob] = [await signedIn(users), await signedIn(users)];
  const [red, blue] = [await root.collection(teams.name).create({ name: 'red' }), await root.collection(teams.name).create({ name: 'blue' })];
  await root.collection(members.name).create({ team: red.id, user: ann.id });
  await root.collection(members.name).create({ team: red.id, user: bob.id });
  await root.collection(members.name).create({ team: blue.id, user: bob.id });
  assert.deepEqual(ids(await ann.pb.collection(teams.name).getFullList()), [red.id]);
  assert.deepEqual(ids(await bob.pb.collection(teams.name).getFullList({ sort: '-name' })), [red.id, blue.id]);
  await ann.pb.collection(teams.name).getOne(red.id);
  await refused(guest().collection(teams.name).getOne(red.id), 404);
});

test('a hidden field is neither shown to, nor set, nor filtered by others than superusers', async () => {
  const root = await superuser();
  const made = await base(root, 'hidden', [text('open'), text('secret', { hidden: true })]);
  const records = guest().collection(made.name);
  const created = await records.create({ open: 'a', secret: 'mine' });
  assert.ok(!('secret' in created));
  assert.equal((await root.collection(made.name).getOne(created.id)).secret, '');
  await root.collection(made.name).update(created.id, { secret: 'set' });
  assert.ok(!('secret' in (await records.getOne(created.id))));
  await refused(records.getList(1, 1, { filter: 'secret = "set"' }), 400);
});
