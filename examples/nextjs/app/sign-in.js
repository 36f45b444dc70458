'use client';

import { useRouter } from 'next/navigation';
import { useState } from 'react';

import { client } from '../lib/client.js';

export default function SignIn() {
  const router = useRouter();
  const [problem, setProblem] = useState('');

  async function signIn(event) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    try {
      await client().collection('users').authWithPassword(form.get('email'), form.get('password'));
      router.refresh();
    } catch (error) {
      setProblem(error.message);
    }
  }

  return (
    <form onSubmit={signIn}>
      <input name="email" type="email" placeholder="Email" required />
      <input name="password" type="password" placeholder="Password" required />
      <button>Sign in</button>
      <p id="problem">{problem}</p>
    </form>
  );
}
