import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { authCollection, base, guest, refused, rules, signedIn, superuser, text } from './helpers.mjs';

const uploads = new URL('../conformance/uploads/', import.meta.url);

async function image(name, type) {
  return new File([await readFile(new URL(name, uploads))], name, { type });
}

function note(content, name = 'note.txt') {
  return new File([content], name, { type: 'text/plain' });
}

function documents(root, others = {}) {
  return base(root, 'documents', [
    text('title'),
    { name: 'one', type: 'file', thumbs: ['20x0', '30x20f'] },
    { name: 'many', type: 'file', maxSelect: 3, maxSize: 100 },
    { name: 'tags', type: 'json' },
  ], others);
}

test('a file is uploaded beside other values and downloaded as it was', async () => {
  const pb = guest();
  const made = await documents(await superuser());
  const record = await pb.collection(made.name).create({ title: 'a', tags: ['x', 1], one: note('hello', 'My Note.txt') });
  assert.match(record.one, /^my_note_[a-z0-9]{10}\.txt$/);
  assert.deepEqual([record.title, record.tags, record.many], ['a', ['x', 1], []]);
  const answer = await fetch(pb.files.getURL(record, record.one));
  assert.equal(answer.status, 200);
  assert.equal(await answer.text(), 'hello');
  assert.equal(answer.headers.get('content-type'), 'text/plain; charset=utf-8');
  assert.equal(answer.headers.get('content-disposition'), `attachment; filename="${record.one}"`);
});

test('a blob without a name gets one', async () => {
  const pb = guest();
  const made = await documents(await superuser());
  const record = await pb.collection(made.name).create({ one: new Blob(['bytes'], { type: 'text/plain' }) });
  assert.match(record.one, /^blob_[a-z0-9]{10}\.txt$/);
  assert.equal(await (await fetch(pb.files.getURL(record, record.one))).text(), 'bytes');
});

test('form data is sent as it is', async () => {
  const made = await documents(await superuser());
  const form = new FormData();
  form.append('title', 'form');
  form.append('many', note('1', 'first.txt'));
  form.append('many', note('2', 'second.txt'));
  const record = await guest().collection(made.name).create(form);
  assert.deepEqual([record.title, record.many.length], ['form', 2]);
});

test('files are appended, put in front, kept and removed by name', async () => {
  const pb = guest();
  const made = await documents(await superuser());
  const records = pb.collection(made.name);
  const names = async (changes) => (await records.update(id, changes)).many;
  const { id, many: [first] } = await records.create({ many: [note('1', 'first.txt')] });
  const [, second] = await names({ 'many+': note('2', 'second.txt') });
  const [third, ...rest] = await names({ '+many': [note('3', 'third.txt')] });
  assert.deepEqual(rest, [first, second]);
  await refused(records.update(id, { 'many+': note('4') }), 400, { many: 'validation_too_many_files' });
  assert.deepEqual(await names({ 'many-': [first, 'unknown.txt'] }), [third, second]);
  assert.equal((await fetch(pb.files.getURL({ id, collectionId: made.id }, first))).status, 404);
  const kept = await names({ many: [second, note('5', 'fifth.txt')] });
  assert.deepEqual([kept.length, kept[0]], [2, second]);
  assert.deepEqual(await names({ many: [] }), []);
});

test('faulty files are refused by field, and nothing changes', async () => {
  const root = await superuser();
  const made = await base(root, 'strict', [
    { name: 'picture', type: 'file', mimeTypes: ['image/png'] },
    { name: 'small', type: 'file', maxSize: 3 },
    { name: 'need', type: 'file', required: true },
  ]);
  const records = guest().collection(made.name);
  await refused(records.create({ picture: new File(['text'], 'a.png', { type: 'image/png' }), small: note('four') }), 400, {
    picture: 'validation_invalid_mime_type',
    small: 'validation_file_size_limit',
    need: 'validation_required',
  });
  await refused(records.create({ need: 'unknown.txt' }), 400, { need: 'validation_invalid_file' });
  assert.equal((await records.getList()).totalItems, 0);
});

test('thumbs are made in the sizes of the field', async () => {
  const pb = guest();
  const made = await documents(await superuser());
  const record = await pb.collection(made.name).create({ one: await image('picture.png', 'image/png') });
  const size = async (thumb) => {
    const answer = await fetch(pb.files.getURL(record, record.one, { thumb }));
    const bytes = new DataView(await answer.arrayBuffer());
    return [answer.headers.get('content-type'), bytes.getUint32(16), bytes.getUint32(20)];
  };
  assert.deepEqual(await size('20x0'), ['image/png', 20, 13]);
  assert.deepEqual(await size('30x20f'), ['image/png', 30, 20]);
  assert.deepEqual(await size('100x100'), ['image/png', 100, 100]);
  assert.deepEqual(await size('21x0'), ['image/png', 120, 80]);
});

test('a download may be forced, and read in part', async () => {
  const pb = guest();
  const made = await documents(await superuser());
  const record = await pb.collection(made.name).create({ one: await image('photo.jpg', 'image/jpeg') });
  const shown = await fetch(pb.files.getURL(record, record.one), { headers: { Range: 'bytes=0-1' } });
  assert.equal(shown.status, 206);
  assert.match(shown.headers.get('content-disposition'), /^inline/);
  assert.deepEqual([...new Uint8Array(await shown.arrayBuffer())], [0xff, 0xd8]);
  const saved = await fetch(pb.files.getURL(record, record.one, { download: true }));
  assert.match(saved.headers.get('content-disposition'), /^attachment/);
});

test('a protected file wants the token of somebody who may see the record', async () => {
  const root = await superuser();
  const users = await authCollection(root);
  const [ann, bob] = [await signedIn(users), await signedIn(users)];
  const made = await base(root, 'protected', [
    { name: 'owner', type: 'relation', collectionId: users.id, maxSelect: 1 },
    { name: 'secret', type: 'file', protected: true },
  ], rules('', { viewRule: 'owner = @request.auth.id' }));
  const record = await root.collection(made.name).create({ owner: ann.id, secret: note('secret') });
  const status = async (token) => (await fetch(root.files.getURL(record, record.secret, { token }))).status;
  assert.equal(await status(await ann.pb.files.getToken()), 200);
  assert.equal(await status(await root.files.getToken()), 200);
  assert.equal(await status(await bob.pb.files.getToken()), 404);
  assert.equal(await status(ann.pb.authStore.token), 404);
  assert.equal(await status(''), 404);
  await refused(guest().files.getToken(), 401);
});

test('files go with their record', async () => {
  const pb = guest();
  const made = await documents(await superuser());
  const record = await pb.collection(made.name).create({ one: note('gone') });
  const url = pb.files.getURL(record, record.one);
  assert.equal((await fetch(url)).status, 200);
  await pb.collection(made.name).delete(record.id);
  assert.equal((await fetch(url)).status, 404);
});
