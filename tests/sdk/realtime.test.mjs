import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventSource } from 'eventsource';
import { allowBatches, authCollection, base, guest, number, PASSWORD, relation, rules, signedIn, superuser, text } from './helpers.mjs';

globalThis.EventSource = EventSource;
const LIMIT_MS = 10_000;

/** Subscribes; `next()` waits for the next event, as `[action, record]`. It ends with the test. */
async function listen(t, pb, collection, topic = '*', options = {}) {
  const events = [];
  let wake = () => {};
  await pb.collection(collection.name).subscribe(topic, (event) => {
    events.push([event.action, event.record]);
    wake();
  }, options);
  t.after(() => pb.realtime.unsubscribe());
  const next = async () => {
    const limit = Date.now() + LIMIT_MS;
    while (!events.length) {
      const left = limit - Date.now();
      assert.ok(left > 0, 'no event in time');
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left);
        wake = () => (clearTimeout(timer), resolve());
      });
    }
    return events.shift();
  };
  return { next };
}

test('creates, updates and deletes are told with the record', async (t) => {
  const made = await base(await superuser(), 'told', [text('title')]);
  const { next } = await listen(t, guest(), made);
  const records = guest().collection(made.name);
  const record = await records.create({ title: 'a' });
  assert.deepEqual(await next(), ['create', record]);
  const updated = await records.update(record.id, { title: 'b' });
  assert.deepEqual(await next(), ['update', updated]);
  await records.delete(record.id);
  assert.deepEqual(await next(), ['delete', updated]);
});

test('one record is told alone', async (t) => {
  const made = await base(await superuser(), 'single', [number('n')]);
  const records = guest().collection(made.name);
  const [one, other] = [await records.create({ n: 1 }), await records.create({ n: 2 })];
  const { next } = await listen(t, guest(), made, one.id);
  await records.update(other.id, { n: 20 });
  await records.update(one.id, { n: 10 });
  assert.equal((await next())[1].n, 10);
});

test('filter, fields and expand shape what is told', async (t) => {
  const root = await superuser();
  const posts = await base(root, 'posts', [text('title')]);
  const notes = await base(root, 'notes', [number('n'), relation('post', posts)]);
  const post = await root.collection(posts.name).create({ title: 'p' });
  const { next } = await listen(t, guest(), notes, '*', {
    filter: 'n > 5', expand: 'post', fields: 'n,expand.post.title',
  });
  await root.collection(notes.name).create({ n: 1, post: post.id });
  await root.collection(notes.name).create({ n: 6, post: post.id });
  assert.deepEqual(await next(), ['create', { n: 6, expand: { post: { title: 'p' } } }]);
});

test('several topics of one client are told apart', async (t) => {
  const root = await superuser();
  const [first, second] = [await base(root, 'first', [text('t')]), await base(root, 'second', [text('t')])];
  const pb = guest();
  const [one, two] = [await listen(t, pb, first), await listen(t, pb, second)];
  await root.collection(second.name).create({ t: 'of the second' });
  await root.collection(first.name).create({ t: 'of the first' });
  assert.equal((await one.next())[1].t, 'of the first');
  assert.equal((await two.next())[1].t, 'of the second');
});

test('what was unsubscribed is told no more', async (t) => {
  const root = await superuser();
  const [left, kept] = [await base(root, 'left', [text('t')]), await base(root, 'kept', [text('t')])];
  const pb = guest();
  const seen = [];
  const unsubscribe = await pb.collection(left.name).subscribe('*', (event) => seen.push(event.record.t));
  const { next } = await listen(t, pb, kept);
  await unsubscribe();
  await root.collection(left.name).create({ t: 'unseen' });
  await root.collection(kept.name).create({ t: 'seen' });
  assert.equal((await next())[1].t, 'seen');
  assert.deepEqual(seen, []);
});

test('rules decide who is told, and hidden fields stay hidden', async (t) => {
  const root = await superuser();
  const users = await authCollection(root);
  const made = await base(root, 'ruled', [relation('owner', users), text('secret', { hidden: true })],
    rules('owner = @request.auth.id'));
  const [ann, bob] = [await signedIn(users), await signedIn(users)];
  const [anns, bobs] = [await listen(t, ann.pb, made), await listen(t, bob.pb, made)];
  const roots = await listen(t, root, made);
  await root.collection(made.name).create({ owner: ann.id, secret: 's' });
  await root.collection(made.name).create({ owner: bob.id, secret: 's' });
  const [, annsRecord] = await anns.next();
  assert.deepEqual([annsRecord.owner, annsRecord.secret], [ann.id, undefined]);
  assert.equal((await bobs.next())[1].owner, bob.id);
  assert.deepEqual([(await roots.next())[1].secret, (await roots.next())[1].owner], ['s', bob.id]);
});

test('a changed password ends the subscriptions of its user', async (t) => {
  const root = await superuser();
  const users = await authCollection(root);
  const made = await base(root, 'members', [text('t')], rules('@request.auth.id != ""'));
  const [ann, bob] = [await signedIn(users), await signedIn(users)];
  const seen = [];
  await ann.pb.collection(made.name).subscribe('*', (event) => seen.push(event.record.t));
  t.after(() => ann.pb.realtime.unsubscribe());
  const bobs = await listen(t, bob.pb, made);
  await root.collection(users.name).update(ann.id, { password: `${PASSWORD}2`, passwordConfirm: `${PASSWORD}2` });
  await root.collection(made.name).create({ t: 'after it' });
  assert.equal((await bobs.next())[1].t, 'after it');
  assert.deepEqual(seen, []);
});

test('a batch is told after it was committed, one that failed is not', async (t) => {
  const root = await superuser();
  await allowBatches(root);
  const made = await base(root, 'batched', [text('title', { required: true })]);
  const { next } = await listen(t, guest(), made);
  const send = (...titles) => {
    const batch = root.createBatch();
    titles.forEach((title) => batch.collection(made.name).create({ title }));
    return batch.send();
  };
  await assert.rejects(send('undone', ''));
  await send('first', 'second');
  const titles = [(await next())[1].title, (await next())[1].title];
  assert.deepEqual(titles.sort(), ['first', 'second']);
});
