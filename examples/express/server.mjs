// A shop behind Groundswell: it knows who calls by the token that the gateway puts on each request.
import { fileURLToPath } from 'node:url';

import express from 'express';
import { createRemoteJWKSet, jwtVerify } from 'jose';

const jwks = createRemoteJWKSet(new URL(process.env.JWKS_URL ?? 'http://127.0.0.1:8090/.well-known/jwks.json'));
const rules = { issuer: 'groundswell', audience: 'shop', algorithms: ['ES256'] };
const carts = new Map();

/** Lets through whom the gateway has verified, as `request.caller`. */
async function caller(request, response, next) {
  const token = request.headers.authorization?.match(/^Bearer (.+)$/)?.[1];
  try {
    request.caller = (await jwtVerify(token ?? '', jwks, rules)).payload;
    next();
  } catch {
    response.status(401).json({ message: 'This request did not come through the gateway.' });
  }
}

const app = express();
app.disable('x-powered-by');
app.get('/', (_, response) => response.sendFile(fileURLToPath(new URL('page.html', import.meta.url))));
app.get('/pocketbase.mjs', (_, response) =>
  response.sendFile(fileURLToPath(import.meta.resolve('pocketbase').replace(/[^/]+$/, 'pocketbase.es.mjs'))),
);
app.get('/cart', caller, (request, response) => {
  const { sub, collection, email } = request.caller;
  response.json({ of: { sub, collection, email }, items: carts.get(sub) ?? [] });
});
app.post('/cart', caller, express.json({ limit: '1kb' }), (request, response) => {
  const items = [...(carts.get(request.caller.sub) ?? []), String(request.body.item)].slice(-100);
  carts.set(request.caller.sub, items);
  response.json({ items });
});

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () =>
  console.log(`The shop listens on http://127.0.0.1:${server.address().port}`),
);
process.once('SIGTERM', () => server.close(() => process.exit()));
