import { headers } from 'next/headers';

import { callerOf } from '../lib/caller.js';
import SignIn from './sign-in.js';
import SignOut from './sign-out.js';

/** Made on the server, for whoever asks: the gateway has verified the cookie, and says who it is. */
export default async function Page() {
  const caller = await callerOf(await headers());
  if (!caller) return <SignIn />;
  return (
    <main>
      <h1>Hello, {caller.name || caller.email}</h1>
      <p id="caller">{`${caller.collection}/${caller.sub}`}</p>
      <SignOut />
    </main>
  );
}
