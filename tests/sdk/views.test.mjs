import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base, guest, number, pluck, refused, relation, superuser, text, unique } from './helpers.mjs';

function view(root, viewQuery, others = {}) {
  return root.collections.create({ name: unique('view'), type: 'view', listRule: '', viewRule: '', viewQuery, ...others });
}

async function posts(root) {
  const made = await base(root, 'posts', [text('title'), number('n'), { name: 'open', type: 'bool' }]);
  for (const n of [1, 2, 3]) await root.collection(made.name).create({ title: `t${n}`, n, open: n > 1 });
  return made;
}

test('the fields of a view follow from its query', async () => {
  const root = await superuser();
  const made = await posts(root);
  const seen = await view(root, `SELECT id, title, n AS number, (n * 2) AS twice, COUNT(id) AS total FROM ${made.name} GROUP BY id`);
  const kinds = seen.fields.map((field) => [field.name, field.type]);
  assert.deepEqual(kinds, [['id', 'text'], ['title', 'text'], ['number', 'number'], ['twice', 'json'], ['total', 'number']]);
});

test('a view is listed, filtered, sorted and read one by one', async () => {
  const root = await superuser();
  const made = await posts(root);
  const seen = await view(root, `SELECT id, title, n, open FROM ${made.name} WHERE n > 1`);
  const records = guest().collection(seen.name);
  const list = await records.getList(1, 10, { sort: '-n' });
  assert.deepEqual([pluck(list, 'title'), list.totalItems], [['t3', 't2'], 2]);
  assert.deepEqual(pluck(await records.getFullList({ filter: 'title = "t3" && open = true' }), 'n'), [3]);
  assert.deepEqual(await records.getOne(list.items[0].id), list.items[0]);
});

test('a view follows its tables', async () => {
  const root = await superuser();
  const made = await posts(root);
  const seen = await view(root, `SELECT id, title FROM ${made.name}`);
  const { id } = await root.collection(made.name).create({ title: 'fresh' });
  assert.equal((await guest().collection(seen.name).getOne(id)).title, 'fresh');
});

test('a relation of a view expands', async () => {
  const root = await superuser();
  const made = await posts(root);
  const notes = await base(root, 'notes', [relation('post', made)]);
  const { id } = await root.collection(made.name).getFirstListItem('n = 2');
  await root.collection(notes.name).create({ post: id });
  const seen = await view(root, `SELECT id, post FROM ${notes.name}`);
  const [record] = await guest().collection(seen.name).getFullList({ expand: 'post' });
  assert.equal(record.expand.post.title, 't2');
});

test('a view is not written to', async () => {
  const root = await superuser();
  const made = await posts(root);
  const seen = await view(root, `SELECT id, title FROM ${made.name}`);
  const [{ id }] = await root.collection(seen.name).getFullList();
  await refused(root.collection(seen.name).create({ title: 'x' }), 400);
  await refused(root.collection(seen.name).update(id, { title: 'x' }), 400);
  await refused(root.collection(seen.name).delete(id), 400);
});

test('a query that is none is refused by its field', async () => {
  const root = await superuser();
  for (const query of ['SELECT 1', 'DELETE FROM posts', 'SELECT id FROM nowhere', '']) {
    const error = await view(root, query).catch((error) => error);
    assert.equal(error.status, 400);
    assert.ok(error.response.data.viewQuery, JSON.stringify(error.response));
  }
});

test('the rules of a view are its own', async () => {
  const root = await superuser();
  const made = await posts(root);
  const seen = await view(root, `SELECT id, n FROM ${made.name}`, { listRule: 'n > 2', viewRule: null });
  const list = await guest().collection(seen.name).getFullList();
  assert.deepEqual(pluck(list, 'n'), [3]);
  await refused(guest().collection(seen.name).getOne(list[0].id), 403);
});
