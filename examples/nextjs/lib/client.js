'use client';

import PocketBase from 'pocketbase';

/** The SDK in the browser. It keeps the sign-in in a cookie, so that pages made on the server know of it. */
export function client() {
  const pb = new PocketBase(location.origin);
  const secure = location.protocol === 'https:';
  pb.authStore.onChange(() => {
    document.cookie = pb.authStore.exportToCookie({ httpOnly: false, secure, sameSite: 'Strict' });
  });
  return pb;
}
