import assert from 'node:assert/strict';
import { test } from 'node:test';
import { authCollection, base, guest, ids, number, pluck, refused, relation, signedIn, superuser, text, unique } from './helpers.mjs';

/** Tags, posts with many tags, comments on a post: public; two posts, three comments. */
async function blog(others = {}) {
  const root = await superuser();
  const tags = await base(root, 'tags', [text('name')], others.tags);
  const posts = await base(root, 'posts', [text('title'), relation('tags', tags, { maxSelect: 9 })]);
  const comments = await base(root, 'comments', [text('text'), number('stars'), relation('post', posts, others.post)]);
  const [red, green, blue] = await Promise.all(['red', 'green', 'blue'].map((name) => root.collection(tags.name).create({ name })));
  const first = await root.collection(posts.name).create({ title: 'first', tags: [green.id, red.id] });
  const second = await root.collection(posts.name).create({ title: 'second', tags: [blue.id] });
  const comment = (text, stars, post) => root.collection(comments.name).create({ text, stars, post: post.id });
  const written = [await comment('good', 5, first), await comment('bad', 1, first), await comment('fine', 4, second)];
  const pb = guest();
  return {
    root, tags, posts, comments, red, green, blue, first, second, written, pb,
    post: pb.collection(posts.name), comment: pb.collection(comments.name), tag: pb.collection(tags.name),
    via: `${comments.name}_via_post`,
  };
}

test('a single relation expands to a record, a multiple one to a list in stored order', async () => {
  const { post, comment, first, green, red, written } = await blog();
  const shown = await comment.getOne(written[0].id, { expand: 'post' });
  assert.equal(shown.expand.post.title, 'first');
  assert.equal(shown.post, first.id);
  const { expand } = await post.getOne(first.id, { expand: 'tags' });
  assert.deepEqual(ids(expand.tags), [green.id, red.id]);
});

test('a back-relation expands to a list', async () => {
  const { post, via, second } = await blog();
  const list = await post.getList(1, 10, { expand: via, sort: 'title' });
  assert.deepEqual(pluck(list.items[0].expand[via], 'text').sort(), ['bad', 'good']);
  assert.deepEqual(pluck(list.items[1].expand[via], 'post'), [second.id]);
});

test('expands nest, forth and back', async () => {
  const { post, comment, via, first, written } = await blog();
  const shown = await comment.getOne(written[2].id, { expand: 'post.tags' });
  assert.deepEqual(pluck(shown.expand.post.expand.tags, 'name'), ['blue']);
  const { expand } = await post.getOne(first.id, { expand: `${via}.post,tags` });
  assert.equal(expand[via][0].expand.post.title, 'first');
  assert.equal(expand.tags.length, 2);
});

test('a back-relation over a unique field expands to one record', async () => {
  const root = await superuser();
  const cars = await base(root, 'cars', [text('name')]);
  const name = unique('plates');
  await base(root, 'x', [text('number'), relation('car', cars)], {
    name,
    indexes: [`CREATE UNIQUE INDEX \`idx_${name}\` ON \`${name}\` (\`car\`)`],
  });
  const car = await root.collection(cars.name).create({ name: 'beetle' });
  await root.collection(name).create({ number: 'B 1', car: car.id });
  const { expand } = await guest().collection(cars.name).getOne(car.id, { expand: `${name}_via_car` });
  assert.equal(expand[`${name}_via_car`].number, 'B 1');
});

test('what cannot be expanded is left out', async () => {
  const { post, first } = await blog();
  const shown = await post.getOne(first.id, { expand: 'missing,title' });
  assert.ok(!('expand' in shown));
});

test('expand shows only what the view rule of the other collection shows', async () => {
  const { post, root, first } = await blog({ tags: { viewRule: 'name = "red"' } });
  const { expand } = await post.getOne(first.id, { expand: 'tags' });
  assert.deepEqual(pluck(expand.tags, 'name'), ['red']);
  const all = await root.collection(first.collectionName).getOne(first.id, { expand: 'tags' });
  assert.deepEqual(pluck(all.expand.tags, 'name'), ['green', 'red']);
});

test('relations are appended to, put before and taken away', async () => {
  const { post, first, red, green, blue } = await blog();
  assert.deepEqual((await post.update(first.id, { 'tags+': blue.id })).tags, [green.id, red.id, blue.id]);
  assert.deepEqual((await post.update(first.id, { 'tags-': [green.id, red.id] })).tags, [blue.id]);
  assert.deepEqual((await post.update(first.id, { '+tags': [red.id] })).tags, [red.id, blue.id]);
});

test('a relation to nothing and the wrong number of relations are refused', async () => {
  const { root, tags, post, red, green, blue } = await blog();
  await refused(post.create({ tags: ['aaaaaaaaaaaaaaa'] }), 400, { tags: 'validation_missing_rel_records' });
  const picky = await base(root, 'picky', [relation('tags', tags, { minSelect: 2, maxSelect: 2 })]);
  const records = guest().collection(picky.name);
  await refused(records.create({ tags: [red.id] }), 400, { tags: 'validation_not_enough_values' });
  await refused(records.create({ tags: [red.id, green.id, blue.id] }), 400, { tags: 'validation_too_many_values' });
});

test('filter and sort go through relations', async () => {
  const { post, comment, via, green } = await blog();
  assert.deepEqual(pluck(await comment.getFullList({ filter: "post.title = 'first'", sort: 'text' }), 'text'), ['bad', 'good']);
  assert.deepEqual(pluck(await comment.getFullList({ sort: '-post.title,text' }), 'text'), ['fine', 'bad', 'good']);
  assert.deepEqual(pluck(await comment.getFullList({ filter: "post.tags.name ?= 'blue'" }), 'text'), ['fine']);
  const titles = async (filter) => pluck(await post.getFullList({ filter, sort: 'title' }), 'title');
  assert.deepEqual(await titles(`${via}.stars ?> 4`), ['first']);
  assert.deepEqual(await titles(`${via}.stars > 3`), ['second']);
  assert.deepEqual(await titles(`tags ~ '${green.id}'`), ['first']);
  assert.deepEqual(await titles("tags.name != 'red'"), ['second']);
});

test('a joined list counts each record once', async () => {
  const { post, via } = await blog();
  const list = await post.getList(1, 10, { filter: `${via}.stars ?>= 1` });
  assert.deepEqual([list.items.length, list.totalItems], [2, 2]);
});

test('deleting a record deletes what cascades from it', async () => {
  const { post, comment, first } = await blog({ post: { cascadeDelete: true } });
  await post.delete(first.id);
  assert.deepEqual(pluck(await comment.getFullList(), 'text'), ['fine']);
});

test('deleting a record empties optional relations to it', async () => {
  const { tag, post, comment, first, green, red, written } = await blog();
  await tag.delete(green.id);
  assert.deepEqual((await post.getOne(first.id)).tags, [red.id]);
  await post.delete(first.id);
  assert.equal((await comment.getOne(written[0].id)).post, '');
});

test('a record that a required relation needs cannot be deleted', async () => {
  const { post, comment, first } = await blog({ post: { required: true } });
  await refused(post.delete(first.id), 400);
  assert.equal((await comment.getFullList()).length, 3);
  await post.getOne(first.id);
});

test('expand comes with create, update and the signed-in record too', async () => {
  const { root, posts, comment, first, second } = await blog();
  const made = await comment.create({ text: 'new', post: first.id }, { expand: 'post' });
  assert.equal(made.expand.post.title, 'first');
  const moved = await comment.update(made.id, { post: second.id }, { expand: 'post' });
  assert.equal(moved.expand.post.title, 'second');
  const users = await authCollection(root, { fields: [relation('favourite', posts)] });
  const { pb } = await signedIn(users, { favourite: first.id });
  const { record } = await pb.collection(users.name).authRefresh({ expand: 'favourite' });
  assert.equal(record.expand.favourite.title, 'first');
});
