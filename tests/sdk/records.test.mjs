import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base, guest, ids, number, pluck, refused, superuser, text, unique } from './helpers.mjs';

/** A public collection of `count` records with n = 1, 2, … */
async function numbered(count, fields = []) {
  const root = await superuser();
  const collection = await base(root, 'numbered', [number('n'), text('t'), ...fields]);
  for (let n = 1; n <= count; n++) await root.collection(collection.name).create({ n, t: n % 2 ? 'odd' : 'even' });
  return guest().collection(collection.name);
}

test('pages hold what is left, and totals count everything', async () => {
  const records = await numbered(7);
  const first = await records.getList(1, 3, { sort: 'n' });
  assert.deepEqual(pluck(first, 'n'), [1, 2, 3]);
  assert.deepEqual([first.page, first.perPage, first.totalItems, first.totalPages], [1, 3, 7, 3]);
  assert.deepEqual(pluck(await records.getList(3, 3, { sort: 'n' }), 'n'), [7]);
  const past = await records.getList(9, 3);
  assert.deepEqual([past.items, past.totalItems, past.page], [[], 7, 9]);
});

test('a page size outside the bounds is brought inside', async () => {
  const records = await numbered(1);
  assert.equal((await records.getList(1, 5000)).perPage, 1000);
  assert.equal((await records.getList(-1, 0)).perPage, 30);
});

test('skipTotal leaves the totals out', async () => {
  const records = await numbered(3);
  const list = await records.getList(1, 2, { skipTotal: true });
  assert.deepEqual([list.items.length, list.totalItems, list.totalPages], [2, -1, -1]);
});

test('sort goes by several fields, each in its own direction', async () => {
  const records = await numbered(5);
  assert.deepEqual(pluck(await records.getList(1, 9, { sort: 't,-n' }), 'n'), [4, 2, 5, 3, 1]);
  assert.equal((await records.getList(1, 9, { sort: '@random' })).items.length, 5);
  await refused(records.getList(1, 9, { sort: 'missing' }), 400);
});

test('filters join comparisons and groups', async () => {
  const records = await numbered(6);
  const found = async (filter) => pluck(await records.getFullList({ filter, sort: 'n' }), 'n');
  assert.deepEqual(await found('n > 2 && n <= 4'), [3, 4]);
  assert.deepEqual(await found('n = 1 || n = 2 && t = "odd"'), [1]);
  assert.deepEqual(await found('(n = 1 || n = 2) && t != "odd"'), [2]);
  assert.deepEqual(await found("t ~ 'DD' && n < 5"), [1, 3]);
  assert.deepEqual(await found("t !~ 'ev%'"), [1, 3, 5]);
});

test('placeholders of pb.filter stand for values of any kind, quotes included', async () => {
  const root = await superuser();
  const made = await base(root, 'quoted', [text('t'), number('n'), { name: 'b', type: 'bool' }, { name: 'd', type: 'date' }]);
  const pb = guest();
  const records = pb.collection(made.name);
  const odd = `O'Neil said "hi" \\ 100%`;
  const one = await records.create({ t: odd, n: 1.5, b: true, d: '2024-01-02 03:04:05.678Z' });
  const two = await records.create({ t: 'plain', n: 2 });
  const found = async (expression, values) => ids(await records.getFullList({ filter: pb.filter(expression, values) }));
  assert.deepEqual(await found('t = {:t}', { t: odd }), [one.id]);
  assert.deepEqual(await found('t ~ {:t}', { t: `O'Neil` }), [one.id]);
  assert.deepEqual(await found('n = {:n} && b = {:b}', { n: 1.5, b: true }), [one.id]);
  assert.deepEqual(await found('d = {:d}', { d: new Date('2024-01-02T03:04:05.678Z') }), [one.id]);
  assert.deepEqual(await found('d = {:d}', { d: null }), [two.id]);
});

test('getFullList goes through all batches', async () => {
  const records = await numbered(7);
  const all = await records.getFullList({ batch: 3, sort: '-n' });
  assert.deepEqual(pluck(all, 'n'), [7, 6, 5, 4, 3, 2, 1]);
});

test('getFirstListItem finds one or fails with 404', async () => {
  const records = await numbered(3);
  assert.equal((await records.getFirstListItem('n > 1', { sort: 'n' })).n, 2);
  await refused(records.getFirstListItem('n > 99'), 404);
});

test('a missing record and a missing id are 404', async () => {
  const records = await numbered(0);
  await refused(records.getOne('aaaaaaaaaaaaaaa'), 404);
  await refused(records.getOne(''), 404);
  await refused(guest().collection(unique('none')).getList(), 404);
});

test('fields picks, goes deep and cuts excerpts', async () => {
  const root = await superuser();
  const made = await base(root, 'picked', [{ name: 'html', type: 'editor' }, { name: 'j', type: 'json' }]);
  const records = guest().collection(made.name);
  const { id } = await records.create({ html: '<p>Hello <b>wide</b> world</p>', j: { a: 1, b: 2 } });
  assert.deepEqual(await records.getOne(id, { fields: 'id,j.a' }), { id, j: { a: 1 } });
  assert.deepEqual(await records.getOne(id, { fields: 'html:excerpt(7,true)' }), { html: 'Hello w...' });
  const list = await records.getList(1, 1, { fields: 'id' });
  assert.deepEqual([list.items, list.totalItems], [[{ id }], 1]);
});

test('every faulty field is named with its code', async () => {
  const root = await superuser();
  const made = await base(root, 'strict', [
    text('need', { required: true }),
    text('short', { max: 3 }),
    text('code', { pattern: '^[A-Z]+$' }),
    number('small', { max: 10 }),
    number('whole', { onlyInt: true }),
    { name: 'mail', type: 'email' },
    { name: 'link', type: 'url' },
    { name: 'one', type: 'select', values: ['a'], maxSelect: 1 },
    { name: 'two', type: 'select', values: ['a', 'b', 'c'], maxSelect: 2 },
    { name: 'place', type: 'geoPoint' },
  ]);
  const records = guest().collection(made.name);
  const creating = records.create({
    short: 'long', code: 'x', small: 11, whole: 1.5, mail: 'nobody', link: 'nowhere', one: 'z', two: ['a', 'b', 'c'],
    place: { lon: 0, lat: 91 },
  });
  const error = await refused(creating, 400, {
    need: 'validation_required',
    short: 'validation_max_text_constraint',
    code: 'validation_invalid_format',
    small: 'validation_max_number_constraint',
    whole: 'validation_only_int_constraint',
    mail: 'validation_is_email',
    link: 'validation_invalid_url',
    one: 'validation_invalid_value',
    two: 'validation_too_many_values',
    place: 'validation_invalid_latitude',
  });
  assert.equal(error.response.message, 'Failed to create record.');
  assert.equal((await records.getList()).totalItems, 0);
});

test('numbers are added to and taken from', async () => {
  const records = await numbered(1);
  const [{ id }] = await records.getFullList();
  assert.equal((await records.update(id, { 'n+': 4 })).n, 5);
  assert.equal((await records.update(id, { 'n-': 7.5 })).n, -2.5);
  await Promise.all(Array.from({ length: 5 }, () => records.update(id, { t: 'x' })));
  assert.equal((await records.getOne(id)).n, -2.5);
});

test('options are appended to, put before and taken from a select', async () => {
  const root = await superuser();
  const made = await base(root, 'options', [{ name: 's', type: 'select', values: ['a', 'b', 'c', 'd'], maxSelect: 4 }]);
  const records = guest().collection(made.name);
  const { id } = await records.create({ s: ['a', 'b'] });
  assert.deepEqual((await records.update(id, { 's+': ['c', 'a'] })).s, ['a', 'b', 'c']);
  assert.deepEqual((await records.update(id, { '+s': 'd' })).s, ['d', 'a', 'b', 'c']);
  assert.deepEqual((await records.update(id, { 's-': ['a', 'c'] })).s, ['d', 'b']);
});

test('input is brought to the kind of its field', async () => {
  const root = await superuser();
  const made = await base(root, 'coerced', [text('t'), number('n'), { name: 'b', type: 'bool' }, { name: 'd', type: 'date' }, { name: 'j', type: 'json' }]);
  const records = guest().collection(made.name);
  const one = await records.create({ t: 12.5, n: '007', b: 'true', d: '2022-01-02T03:04:05+02:00', j: '[1, 2]' });
  assert.deepEqual([one.t, one.n, one.b, one.d, one.j], ['12.5', 7, true, '2022-01-02 01:04:05.000Z', [1, 2]]);
  const two = await records.create({ t: ['x'], n: 'seven', b: 'yes', d: '2022-13-45', j: 'word', unknown: 1 });
  assert.deepEqual([two.t, two.n, two.b, two.d, two.j], ['', 0, false, '', 'word']);
});

test('an update changes what it names and the time of the update', async () => {
  const root = await superuser();
  const made = await base(root, 'dated', [
    text('t'), number('n'),
    { name: 'created', type: 'autodate', onCreate: true },
    { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true },
  ]);
  const records = guest().collection(made.name);
  const before = await records.create({ t: 'kept', n: 1, created: '2000-01-01 00:00:00.000Z' });
  assert.ok(before.created > '2020');
  const after = await records.update(before.id, { n: 2, created: '2000-01-01 00:00:00.000Z' });
  assert.deepEqual([after.t, after.n, after.created], ['kept', 2, before.created]);
  assert.ok(after.updated >= before.updated);
});

test('filters reach into json, options and places', async () => {
  const root = await superuser();
  const made = await base(root, 'reached', [
    text('t'), { name: 'j', type: 'json' }, { name: 's', type: 'select', values: ['a', 'b', 'c'], maxSelect: 3 }, { name: 'g', type: 'geoPoint' },
  ]);
  const records = guest().collection(made.name);
  await records.create({ t: 'one', j: { a: { b: 1 }, list: ['x'] }, s: ['a', 'b'], g: { lon: 23.32, lat: 42.69 } });
  await records.create({ t: 'two', j: { a: { b: '1' } }, s: ['a'], g: { lon: 13.4, lat: 52.52 } });
  await records.create({ t: 'none' });
  const found = async (filter) => pluck(await records.getFullList({ filter, sort: 't' }), 't');
  assert.deepEqual(await found('j.a.b = 1'), ['one']);
  assert.deepEqual(await found("j.list.0 = 'x'"), ['one']);
  assert.deepEqual(await found('j.a = null'), ['none']);
  assert.deepEqual(await found('s:length = 1'), ['two']);
  assert.deepEqual(await found("s:each = 'a'"), ['two']);
  assert.deepEqual(await found("s:each ?= 'a'"), ['one', 'two']);
  assert.deepEqual(await found("s:each != 'b'"), ['none', 'two']);
  assert.deepEqual(await found('geoDistance(g.lon, g.lat, 23.3, 42.7) < 10'), ['one']);
  assert.deepEqual(await found("t:lower = 'one'"), ['one']);
});

test('macros of time are values in filters', async () => {
  const root = await superuser();
  const made = await base(root, 'timed', [{ name: 'd', type: 'date' }]);
  const records = guest().collection(made.name);
  const past = await records.create({ d: '2001-01-01 00:00:00.000Z' });
  const future = await records.create({ d: '2999-01-01 00:00:00.000Z' });
  assert.deepEqual(ids(await records.getFullList({ filter: 'd < @now' })), [past.id]);
  assert.deepEqual(ids(await records.getFullList({ filter: 'd > @yearEnd' })), [future.id]);
});

test('a faulty filter is refused without detail, and some names are kept from guests', async () => {
  const records = await numbered(1);
  for (const filter of ['n >', 'n == 1', 'missing = 1', 'n = 1 &&', "t = 'x", 'unknown(1) = 2']) {
    const error = await refused(records.getList(1, 1, { filter }), 400);
    assert.equal(error.response.message, 'Something went wrong while processing your request.');
  }
  await refused(records.getList(1, 1, { filter: "@request.auth.id = ''" }), 403);
  await refused(records.getList(1, 1, { filter: '@collection.users.id != ""' }), 403);
});

test('an id may be chosen once and is never changed', async () => {
  const records = await numbered(0);
  const made = await records.create({ id: 'chosen000000000', n: 1 });
  assert.equal(made.id, 'chosen000000000');
  await refused(records.create({ id: made.id }), 400, { id: 'validation_not_unique' });
  await refused(records.create({ id: 'short' }), 400, { id: 'validation_min_text_constraint' });
  await refused(records.update(made.id, { id: 'chosen000000001' }), 400, { id: 'validation_pk_change' });
});

test('texts with a pattern are made up when empty, or on request after a prefix', async () => {
  const root = await superuser();
  const made = await base(root, 'generated', [text('code', { autogeneratePattern: '[A-Z]{4}-[0-9]{2}' })]);
  const records = guest().collection(made.name);
  assert.match((await records.create({})).code, /^[A-Z]{4}-\d{2}$/);
  assert.match((await records.create({ 'code:autogenerate': 'x-' })).code, /^x-[A-Z]{4}-\d{2}$/);
  assert.equal((await records.create({ code: 'mine' })).code, 'mine');
});

test('a deleted record is gone', async () => {
  const records = await numbered(2);
  const [first, second] = ids(await records.getFullList({ sort: 'n' }));
  assert.equal(await records.delete(first), true);
  await refused(records.getOne(first), 404);
  await refused(records.delete(first), 404);
  assert.deepEqual(ids(await records.getFullList()), [second]);
});
