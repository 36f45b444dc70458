import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { allowBatches, authCollection, base, guest, ids, number, relation, rules, signedIn, superuser, text } from './helpers.mjs';

before(async () => allowBatches(await superuser()));

test('every action is answered in the order of the requests', async () => {
  const root = await superuser();
  const made = await base(root, 'acted', [text('title'), number('n')]);
  const pb = guest();
  const old = await pb.collection(made.name).create({ title: 'old', n: 1 });
  const gone = await pb.collection(made.name).create({ title: 'gone' });
  const batch = pb.createBatch();
  const records = batch.collection(made.name);
  records.create({ title: 'new' });
  records.update(old.id, { 'n+': 2 });
  records.upsert({ id: old.id, title: 'upserted' });
  records.upsert({ id: 'chosen000000000', title: 'chosen' });
  records.delete(gone.id);
  const answers = await batch.send();
  assert.deepEqual(answers.map((answer) => answer.status), [200, 200, 200, 200, 204]);
  assert.deepEqual(answers.map((answer) => answer.body?.title), ['new', 'old', 'upserted', 'chosen', undefined]);
  assert.deepEqual([answers[1].body.n, answers[2].body.n, answers[4].body], [3, 3, null]);
  assert.equal((await pb.collection(made.name).getList()).totalItems, 3);
});

test('a later request sees what an earlier one made', async () => {
  const root = await superuser();
  const posts = await base(root, 'posts', [text('title')]);
  const notes = await base(root, 'notes', [relation('post', posts)]);
  const batch = guest().createBatch();
  batch.collection(posts.name).create({ id: 'post00000000001', title: 'first' });
  batch.collection(notes.name).create({ post: 'post00000000001' }, { expand: 'post', fields: 'expand.post.title' });
  const [, note] = await batch.send();
  assert.deepEqual(note.body, { expand: { post: { title: 'first' } } });
});

test('one that fails undoes all, and is named with its answer', async () => {
  const root = await superuser();
  const made = await base(root, 'undone', [text('title', { required: true })]);
  const pb = guest();
  const kept = await pb.collection(made.name).create({ title: 'kept' });
  const batch = pb.createBatch();
  batch.collection(made.name).create({ title: 'undone' });
  batch.collection(made.name).delete(kept.id);
  batch.collection(made.name).create({ title: '' });
  const error = await batch.send().catch((error) => error);
  assert.deepEqual([error.status, error.response.message], [400, 'Batch transaction failed.']);
  assert.deepEqual(Object.keys(error.response.data.requests), ['2']);
  assert.equal(error.response.data.requests[2].response.data.title.code, 'validation_required');
  assert.deepEqual(ids(await pb.collection(made.name).getFullList()), [kept.id]);
});

test('files go along by their request', async () => {
  const root = await superuser();
  const made = await base(root, 'filed', [text('title'), { name: 'files', type: 'file', maxSelect: 3 }]);
  const pb = guest();
  const file = (content) => new File([content], `${content}.txt`, { type: 'text/plain' });
  const batch = pb.createBatch();
  batch.collection(made.name).create({ id: 'filed0000000001', title: 'a', files: [file('first'), file('second')] });
  batch.collection(made.name).create({ title: 'b', files: file('third') });
  batch.collection(made.name).update('filed0000000001', { 'files+': file('fourth') });
  const [first, second, appended] = (await batch.send()).map((answer) => answer.body);
  assert.deepEqual([first.files.length, second.files.length, appended.files.length], [2, 1, 3]);
  const read = async (record, name) => (await fetch(pb.files.getURL(record, name))).text();
  assert.equal(await read(first, first.files[1]), 'second');
  assert.equal(await read(second, second.files[0]), 'third');
  assert.equal(await read(appended, appended.files[2]), 'fourth');
});

test('rules ask for the caller of the batch', async () => {
  const root = await superuser();
  const users = await authCollection(root);
  const made = await base(root, 'owned', [relation('owner', users)], rules('owner = @request.auth.id'));
  const [ann, bob] = [await signedIn(users), await signedIn(users)];
  const create = (pb, owner) => {
    const batch = pb.createBatch();
    batch.collection(made.name).create({ owner });
    return batch.send();
  };
  assert.equal((await create(ann.pb, ann.id))[0].body.owner, ann.id);
  assert.equal((await create(bob.pb, ann.id).catch((error) => error)).status, 400);
  assert.equal((await create(guest(), ann.id).catch((error) => error)).status, 400);
});

test('an empty batch is refused', async () => {
  const error = await guest().createBatch().send().catch((error) => error);
  assert.deepEqual([error.status, error.response.data.requests.code], [400, 'validation_required']);
});
