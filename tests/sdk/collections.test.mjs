import assert from 'node:assert/strict';
import { test } from 'node:test';
import { authCollection, base, guest, number, pluck, refused, relation, signedIn, superuser, text, unique } from './helpers.mjs';

test('a collection is returned with its system field, its rules and stable ids', async () => {
  const root = await superuser();
  const made = await base(root, 'notes', [text('title')], { listRule: null });
  assert.match(made.id, /^pbc_\d+$/);
  assert.deepEqual(made.fields.map((field) => field.name), ['id', 'title']);
  // Field ids are the type and the CRC-32 of the name.
  assert.equal(made.fields[0].id, 'text3208210256');
  assert.equal(made.fields[0].autogeneratePattern, '[a-z0-9]{15}');
  assert.equal(made.listRule, null);
  assert.equal(made.viewRule, '');
  assert.equal(made.system, false);
  assert.deepEqual(await root.collections.getOne(made.name), await root.collections.getOne(made.id));
});

test('an auth collection gets its fields, indexes and options', async () => {
  const root = await superuser();
  const users = await authCollection(root);
  const names = users.fields.map((field) => field.name);
  for (const name of ['id', 'password', 'tokenKey', 'email', 'emailVisibility', 'verified', 'name']) {
    assert.ok(names.includes(name), name);
  }
  assert.equal(users.indexes.length, 2);
  assert.deepEqual(users.passwordAuth, { enabled: true, identityFields: ['email'] });
  assert.equal(users.authToken.duration, 432000);
  assert.equal(users.authToken.secret, undefined);
});

test('a value of every kind of field comes back as it was stored', async () => {
  const root = await superuser();
  const all = await base(root, 'kinds', [
    text('t'),
    { name: 'e', type: 'editor' },
    number('n'),
    { name: 'b', type: 'bool' },
    { name: 'm', type: 'email' },
    { name: 'u', type: 'url' },
    { name: 'd', type: 'date' },
    { name: 's', type: 'select', values: ['a', 'b', 'c'], maxSelect: 1 },
    { name: 'ss', type: 'select', values: ['a', 'b', 'c'], maxSelect: 3 },
    { name: 'j', type: 'json' },
    { name: 'g', type: 'geoPoint' },
    { name: 'created', type: 'autodate', onCreate: true },
    { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true },
  ]);
  const sent = {
    t: 'grün 🌊', e: '<p>x</p>', n: -2.5, b: true, m: 'a@example.com', u: 'https://example.com/x?y=1',
    d: '2024-02-29 12:30:00.123Z', s: 'b', ss: ['c', 'a'], j: { deep: [1, null, { x: 'y' }] }, g: { lon: 23.32, lat: 42.69 },
  };
  const made = await guest().collection(all.name).create(sent);
  const { id, collectionId, collectionName, created, updated, ...rest } = made;
  assert.deepEqual(rest, sent);
  assert.match(id, /^[a-z0-9]{15}$/);
  assert.deepEqual([collectionId, collectionName], [all.id, all.name]);
  assert.match(created, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.equal(updated, created);
  assert.deepEqual(await guest().collection(all.name).getOne(id), made);
});

test('fields that are not sent have the zero value of their kind', async () => {
  const root = await superuser();
  const all = await base(root, 'zeros', [
    text('t'), number('n'), { name: 'b', type: 'bool' }, { name: 'd', type: 'date' }, { name: 'j', type: 'json' },
    { name: 'ss', type: 'select', values: ['a', 'b'], maxSelect: 2 }, { name: 's', type: 'select', values: ['a'] },
    { name: 'g', type: 'geoPoint' },
  ]);
  const { t, n, b, d, j, s, ss, g } = await guest().collection(all.name).create({});
  assert.deepEqual({ t, n, b, d, j, s, ss, g }, { t: '', n: 0, b: false, d: '', j: null, s: '', ss: [], g: { lon: 0, lat: 0 } });
});

test('a unique index refuses the second record', async () => {
  const root = await superuser();
  const name = unique('unique');
  await base(root, 'x', [text('slug'), text('lang')], {
    name,
    indexes: [`CREATE UNIQUE INDEX \`idx_${name}\` ON \`${name}\` (\`slug\`, \`lang\`)`],
  });
  const pb = guest();
  await pb.collection(name).create({ slug: 'a', lang: 'en' });
  await pb.collection(name).create({ slug: 'a', lang: 'de' });
  const again = pb.collection(name).create({ slug: 'a', lang: 'en' });
  await refused(again, 400, { slug: 'validation_not_unique', lang: 'validation_not_unique' });
});

test('a renamed collection keeps its id, its records and its indexes', async () => {
  const root = await superuser();
  const name = unique('before');
  const old = await base(root, 'x', [text('title')], {
    name,
    indexes: [`CREATE INDEX \`idx_${name}\` ON \`${name}\` (\`title\`)`],
  });
  const record = await root.collection(name).create({ title: 'kept' });
  const renamed = await root.collections.update(name, { name: unique('after') });
  assert.equal(renamed.id, old.id);
  assert.ok(renamed.indexes[0].includes(renamed.name), renamed.indexes[0]);
  const found = await root.collection(renamed.name).getOne(record.id);
  assert.equal(found.title, 'kept');
  assert.equal(found.collectionName, renamed.name);
  await refused(root.collection(name).getOne(record.id), 404);
});

test('a field renamed by its id keeps the values, a new field has its default, a dropped one is gone', async () => {
  const root = await superuser();
  const old = await base(root, 'schema', [text('a'), text('b')]);
  const record = await root.collection(old.name).create({ a: 'kept', b: 'dropped' });
  const fields = old.fields.filter((field) => field.name !== 'b');
  fields.find((field) => field.name === 'a').name = 'renamed';
  await root.collections.update(old.id, { fields: [...fields, number('added')] });
  const found = await root.collection(old.name).getOne(record.id);
  assert.equal(found.renamed, 'kept');
  assert.equal(found.added, 0);
  assert.ok(!('a' in found) && !('b' in found));
});

test('a single select made multiple keeps its value in a list', async () => {
  const root = await superuser();
  const old = await base(root, 'tags', [{ name: 'tag', type: 'select', values: ['a', 'b'], maxSelect: 1 }]);
  const record = await root.collection(old.name).create({ tag: 'b' });
  const fields = old.fields.map((field) => (field.name === 'tag' ? { ...field, maxSelect: 2 } : field));
  await root.collections.update(old.id, { fields });
  assert.deepEqual((await root.collection(old.name).getOne(record.id)).tag, ['b']);
});

test('import creates what is new, merges what is there and leaves the rest alone', async () => {
  const root = await superuser();
  const kept = await base(root, 'kept', [text('title')]);
  const merged = await base(root, 'merged', [text('title')]);
  const record = await root.collection(merged.name).create({ title: 'still here' });
  const added = unique('added');
  const done = await root.collections.import([
    { name: added, type: 'base', fields: [number('count')] },
    { id: merged.id, name: merged.name, type: 'base', listRule: '', fields: [number('more')] },
  ]);
  assert.equal(done, true);
  assert.deepEqual((await root.collections.getOne(added)).fields.map((field) => field.name), ['id', 'count']);
  const { fields } = await root.collections.getOne(merged.id);
  assert.deepEqual(fields.map((field) => field.name).sort(), ['id', 'more', 'title']);
  assert.equal((await root.collection(merged.name).getOne(record.id)).title, 'still here');
  assert.deepEqual(await root.collections.getOne(kept.id), kept);
});

test('a faulty import changes nothing', async () => {
  const root = await superuser();
  const name = unique('half');
  const importing = root.collections.import([
    { name, type: 'base', fields: [text('title')] },
    { name: unique('bad'), type: 'base', listRule: 'missing = 1', fields: [text('title')] },
  ]);
  await refused(importing, 400, { collections: 'validation_collections_import_failure' });
  await refused(root.collections.getOne(name), 404);
});

test('truncate empties a collection and keeps it', async () => {
  const root = await superuser();
  const made = await base(root, 'full', [text('title')]);
  for (const title of ['a', 'b', 'c']) await root.collection(made.name).create({ title });
  assert.equal(await root.collections.truncate(made.name), true);
  assert.equal((await root.collection(made.name).getList(1, 1)).totalItems, 0);
  await root.collection(made.name).create({ title: 'again' });
});

test('scaffolds are blank collections of each type', async () => {
  const root = await superuser();
  const scaffolds = await root.collections.getScaffolds();
  assert.deepEqual(Object.keys(scaffolds).sort(), ['auth', 'base', 'view']);
  for (const [type, scaffold] of Object.entries(scaffolds)) {
    assert.deepEqual([scaffold.type, scaffold.id, scaffold.name, scaffold.listRule], [type, '', '', null]);
  }
  assert.deepEqual(scaffolds.base.fields.map((field) => field.name), ['id']);
});

test('faulty collections are refused with a code by field', async () => {
  const root = await superuser();
  const there = await base(root, 'there', [text('title')]);
  const create = (others) => root.collections.create({ name: unique('bad'), type: 'base', fields: [text('t')], ...others });
  await refused(create({ name: there.name }), 400, { name: 'validation_collection_name_exists' });
  await refused(create({ name: 'a-b' }), 400, { name: 'validation_match_invalid' });
  await refused(create({ listRule: 'missing = 1' }), 400, { listRule: 'validation_invalid_rule' });
  const twice = await create({ fields: [text('t'), text('T')] }).catch((error) => error);
  assert.equal(twice.status, 400);
  assert.equal(twice.response.data.fields[2].name.code, 'validation_duplicated_field_name');
});

test('a collection that another refers to cannot be deleted before that one', async () => {
  const root = await superuser();
  const target = await base(root, 'target', [text('title')]);
  const source = await base(root, 'source', [relation('to', target)]);
  const error = await refused(root.collections.delete(target.id), 400);
  assert.ok(error.response.message.includes(source.name), error.response.message);
  assert.equal(await root.collections.delete(source.id), true);
  assert.equal(await root.collections.delete(target.id), true);
  await refused(root.collections.getOne(target.id), 404);
});

test('collections are listed by filter and sort', async () => {
  const root = await superuser();
  const prefix = unique('listed');
  for (const name of ['b', 'a', 'c']) await base(root, 'x', [text('t')], { name: `${prefix}_${name}` });
  const filter = root.filter('name ~ {:prefix} && type = "base"', { prefix: `${prefix}%` });
  const list = await root.collections.getList(1, 2, { filter, sort: '-name' });
  assert.deepEqual(pluck(list, 'name'), [`${prefix}_c`, `${prefix}_b`]);
  assert.equal(list.totalItems, 3);
});

test('only superusers manage collections', async () => {
  const root = await superuser();
  const { pb } = await signedIn(await authCollection(root));
  await refused(guest().collections.getList(), 401);
  await refused(pb.collections.getList(), 403);
  await refused(pb.collections.create({ name: unique('mine'), type: 'base' }), 403);
  await refused(guest().collections.delete('users'), 401);
});
