// README's first app with the official client. It can be run again: what is there already is kept.
//   npm install && npm start
// The superuser is the one that README makes; set EMAIL, PASSWORD and URL for another one or another server.
import PocketBase, { ClientResponseError } from 'pocketbase';

const url = process.env.URL ?? 'http://127.0.0.1:8090';
const email = process.env.EMAIL ?? 'admin@example.com';
const password = process.env.PASSWORD ?? 'change-me-1234';

await makeNotes();
const ann = await signUp('ann');
const bob = await signUp('bob');

const note = await ann.collection('notes').create({ text: 'buy milk', owner: ann.authStore.record.id });
console.log('ann wrote', note.id);
await ann.collection('notes').create({ text: 'for everyone', public: true, owner: ann.authStore.record.id });

const seen = async (client) => (await client.collection('notes').getFullList({ sort: 'created' })).map((one) => one.text);
console.log('ann sees', await seen(ann));
console.log('bob sees', await seen(bob));

try {
  await bob.collection('notes').update(note.id, { text: 'mine now' });
} catch (error) {
  if (!(error instanceof ClientResponseError)) throw error;
  console.log('bob may not change it:', error.status, error.response.message);
}

/** The collection `notes`, made by the superuser unless it is there. */
async function makeNotes() {
  const admin = new PocketBase(url);
  await admin.collection('_superusers').authWithPassword(email, password);
  const existing = await admin.collections.getFullList({ filter: 'name = "notes"' });
  if (existing.length > 0) return;
  const users = await admin.collections.getOne('users');
  await admin.collections.create({
    name: 'notes',
    type: 'base',
    listRule: 'public = true || owner = @request.auth.id',
    viewRule: 'public = true || owner = @request.auth.id',
    createRule: 'owner = @request.auth.id',
    updateRule: 'owner = @request.auth.id',
    deleteRule: 'owner = @request.auth.id',
    fields: [
      { name: 'text', type: 'text', required: true },
      { name: 'public', type: 'bool' },
      { name: 'owner', type: 'relation', collectionId: users.id, maxSelect: 1, required: true },
      { name: 'created', type: 'autodate', onCreate: true },
    ],
  });
}

/** A client of a new user. */
async function signUp(name) {
  const client = new PocketBase(url);
  const address = `${name}-${Date.now()}@example.com`;
  await client.collection('users').create({ email: address, password: '12345678', passwordConfirm: '12345678', name });
  await client.collection('users').authWithPassword(address, '12345678');
  return client;
}
