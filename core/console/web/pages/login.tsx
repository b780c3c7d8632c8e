import { useRef, useState } from 'preact/hooks'
import type { AdminSession } from '../../../../sdk/admin/index.ts'
import iconUrl from '../icon.svg'
import { admin } from '../node.ts'
import { Failure } from '../parts/frame.tsx'
import { useAction } from '../poll.ts'

export function Login({
  trouble,
  onLogin,
}: {
  readonly trouble: string | undefined
  readonly onLogin: (session: AdminSession) => void
}) {
  const secret = useRef<HTMLInputElement>(null)
  const [accessKeyId, setAccessKeyId] = useState('')
  const { busy, error, run } = useAction()
  return (
    <main class="login">
      <form
        class="fade"
        aria-label="Log in"
        onSubmit={(event) => {
          event.preventDefault()
          const field = secret.current
          if (field === null) return
          run(async () => {
            const session = await admin.login(accessKeyId.trim(), field.value)
            // It has done its work; nothing of it stays in the page.
            field.value = ''
            onLogin(session)
          })
        }}
      >
        <h1 class="brand">
          <img src={iconUrl} alt="" />
          Pando
        </h1>
        <p class="muted">The root key administers this region. Any other access key opens its own buckets.</p>
        <label>
          Access key
          <input
            name="username"
            autocomplete="username"
            spellcheck={false}
            autocapitalize="off"
            required
            value={accessKeyId}
            onInput={(event) => setAccessKeyId(event.currentTarget.value)}
          />
        </label>
        <label>
          Secret key
          <input ref={secret} type="password" name="password" autocomplete="current-password" required />
        </label>
        <Failure text={error ?? trouble} />
        <button type="submit" class="main" disabled={busy}>
          {busy ? 'Logging in…' : 'Log in'}
        </button>
        <p class="muted">The secret answers a challenge here in the page; it is not sent and not kept.</p>
      </form>
    </main>
  )
}
