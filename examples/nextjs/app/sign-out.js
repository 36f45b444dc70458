'use client';

import { useRouter } from 'next/navigation';

import { client } from '../lib/client.js';

export default function SignOut() {
  const router = useRouter();

  function signOut() {
    client().authStore.clear();
    router.refresh();
  }

  return (
    <button id="sign-out" onClick={signOut}>
      Sign out
    </button>
  );
}
