// Custom logic for an order: prices it before it is written, and prints every change after.
// Node 20 or newer, no packages. Run it beside the server:
//   HOOK_SECRET=whsec_… PORT=3000 node server.mjs
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const PRICES = { apple: 30, pear: 45 };
const MAX_AGE_SECONDS = 300;
const MAX_BODY_BYTES = 1 << 20;

const key = Buffer.from((process.env.HOOK_SECRET ?? '').replace(/^whsec_/, ''), 'base64');
if (key.length === 0) throw new Error('set HOOK_SECRET to the secret of the hook');

// A message may come twice: its id is the same then. A real receiver keeps the ids where it keeps its work.
const seen = new Set();

const server = createServer(async (request, response) => {
  const body = await read(request);
  if (body === null || !isGenuine(request.headers, body)) return answer(response, 401, { message: 'Not signed.' });
  const message = JSON.parse(body);
  switch (message.type) {
    case 'records.create.before':
      return answer(response, ...priced(message.body));
    case 'records.create.after':
    case 'records.update.after':
    case 'records.delete.after':
      if (!seen.has(request.headers['webhook-id'])) {
        seen.add(request.headers['webhook-id']);
        console.log(`${message.type} ${message.recordId} ${JSON.stringify(message.record)}`);
      }
      return answer(response, 200, {});
    default:
      return answer(response, 200, {});
  }
});
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`listening on ${server.address().port}`);
});

/** What to set, or why not: the client sees message and data. */
function priced(order) {
  const price = PRICES[order.fruit];
  if (price === undefined) {
    const error = { code: 'validation_unknown_fruit', message: `We sell ${Object.keys(PRICES).join(' and ')}.` };
    return [400, { message: 'Failed to create record.', data: { fruit: error } }];
  }
  return [200, { set: { total: price * (order.amount ?? 1) } }];
}

/** Checks the signature, as standardwebhooks.com has it. */
function isGenuine(headers, body) {
  const { 'webhook-id': id, 'webhook-timestamp': seconds, 'webhook-signature': signatures = '' } = headers;
  if (!(Math.abs(Date.now() / 1000 - Number(seconds)) < MAX_AGE_SECONDS)) return false;
  const expected = createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest();
  return signatures.split(' ').some((signature) => {
    const [version, text = ''] = signature.split(',');
    const given = Buffer.from(text, 'base64');
    return version === 'v1' && given.length === expected.length && timingSafeEqual(given, expected);
  });
}

async function read(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function answer(response, status, json) {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(json));
}
