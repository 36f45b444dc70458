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

const server = createServer((request, response) => {
  // An upload that breaks off, or a body that is no JSON, is the end of a request and not of this process.
  handle(request, response).catch((error) => {
    console.error(error.message);
    if (response.headersSent) response.destroy();
    else answer(response, 500, {});
  });
});
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`listening on ${server.address().port}`);
});

async function handle(request, response) {
  const body = await read(request);
  // Without a message for the client: who cannot be told from a stranger has not refused, he failed.
  if (body === null || !isGenuine(request.headers, body)) return answer(response, 401, {});
  const message = JSON.parse(body);
  switch (message.type) {
    case 'records.create.before':
      return answer(response, ...priced(message));
    case 'records.update.before':
      return answer(response, ...(concernsPrice(message) ? priced(message) : [200, {}]));
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
}

/** Whether an update touches what makes the price. `values` names fields, whatever the client called its keys. */
function concernsPrice({ values }) {
  return ['fruit', 'amount', 'total'].some((field) => Object.hasOwn(values, field));
}

/** What to set, or why not: the client sees message and data. */
function priced({ body, values }) {
  // `amount+` adds to what is stored when the write happens, which may be more than what is stored now. So a price is
  // made of what the client sends whole: fruit and amount, in an update too.
  for (const field of ['fruit', 'amount']) {
    if (!Object.hasOwn(body, field) || Object.keys(body).some((key) => key !== field && isModifier(key, field))) {
      return refused(field, 'validation_whole_order', 'Send fruit and amount, both as they shall be.');
    }
  }
  if (!Object.hasOwn(PRICES, values.fruit)) {
    return refused('fruit', 'validation_unknown_fruit', `We sell ${Object.keys(PRICES).join(' and ')}.`);
  }
  if (!Number.isSafeInteger(values.amount) || values.amount < 1) {
    return refused('amount', 'validation_amount', 'Must be a whole number, at least 1.');
  }
  return [200, { set: { total: PRICES[values.fruit] * values.amount } }];
}

function isModifier(key, field) {
  return [`${field}+`, `+${field}`, `${field}-`, `${field}:autogenerate`].includes(key);
}

function refused(field, code, message) {
  return [400, { message: 'The order cannot be priced.', data: { [field]: { code, message } } }];
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
