import { createRemoteJWKSet, jwtVerify } from 'jose';

const jwks = createRemoteJWKSet(new URL(process.env.JWKS_URL ?? 'http://127.0.0.1:8090/.well-known/jwks.json'));

/** Who asks, by the token that the gateway has put on the request; null for a guest. */
export async function callerOf(headers) {
  const token = headers.get('authorization')?.match(/^Bearer (.+)$/)?.[1];
  if (!token) return null;
  const rules = { issuer: 'groundswell', audience: 'pages', algorithms: ['ES256'] };
  const { payload } = await jwtVerify(token, jwks, rules);
  return payload;
}
