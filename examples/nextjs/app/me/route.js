import { callerOf } from '../../lib/caller.js';

/** What the server knows of the caller, and what it does not: the application's own token. */
export async function GET(request) {
  const caller = await callerOf(request.headers);
  return Response.json({ caller, cookie: request.headers.get('cookie') });
}
