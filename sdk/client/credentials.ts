import { unlessAborted } from './aborts.ts'
import type { ClientEnvironment } from './environment.ts'
import { invalidArgument, PandoError } from './errors.ts'

export interface Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** Of temporary credentials. */
  readonly sessionToken?: string
  /** When they end; a provider is asked for new ones a minute before. */
  readonly expiresAt?: Date
}

/**
 * Asked before the first request, before the credentials end, and when the server says that they have ended; once for all calls that wait. One
 * that has said nothing for 30 s counts as failed: `signal` is aborted, and the next call asks anew.
 */
export type CredentialsProvider = (options: { readonly signal?: AbortSignal }) => Promise<Credentials>

export interface CredentialsSource {
  get(): Credentials | Promise<Credentials>
  /** These were refused as expired: the next `get` asks for new ones. False: there are no others. */
  expire(used: Credentials): boolean
}

/** How long before their end credentials are replaced, so that a request signed now is not late. */
const refreshBeforeMs = 60_000
/** Less than that, so that credentials about to end serve on when nobody gives new ones. */
const longestAskMs = 30_000

export function openCredentials(
  given: Credentials | CredentialsProvider,
  environment: ClientEnvironment,
): CredentialsSource {
  if (typeof given !== 'function') {
    check(given)
    return { get: () => given, expire: () => false }
  }
  let current: Credentials | undefined
  // Many requests that find the credentials gone ask once.
  let asking: Promise<Credentials> | undefined
  const isFresh = (credentials: Credentials): boolean =>
    credentials.expiresAt === undefined ||
    credentials.expiresAt.getTime() - refreshBeforeMs > environment.now()
  const ask = (): Promise<Credentials> => {
    const ender = new AbortController()
    const { signal } = ender
    const cancel = environment.after(longestAskMs, () =>
      ender.abort(new Error(`no answer within ${longestAskMs} ms`)),
    )
    const asked = (async () => given({ signal }))()
    return unlessAborted(asked, signal).finally(cancel)
  }
  return {
    get() {
      if (current !== undefined && isFresh(current)) return current
      asking ??= ask()
        .then(
          (credentials) => {
            check(credentials)
            current = credentials
            return credentials
          },
          (cause: unknown) => {
            // Those that are still valid serve on while the provider is away.
            if (current?.expiresAt !== undefined && current.expiresAt.getTime() > environment.now())
              return current
            throw new PandoError('CredentialsUnavailable', 'the credentials provider failed', { cause })
          },
        )
        .finally(() => {
          asking = undefined
        })
      return asking
    },
    expire(used) {
      if (current === used) current = undefined
      return true
    },
  }
}

/**
 * What a provider will answer, for a call that may take until `deadlineMs`: `DeadlineExceeded`, or the signal's reason. The question is not ended
 * by that, since others may wait for its answer. `known`: of the call, for its error.
 */
export async function credentialsInTime(
  waiting: Promise<Credentials>,
  environment: ClientEnvironment,
  deadlineMs: number,
  signal: AbortSignal | undefined,
  known: Pick<PandoError, 'attempts' | 'ambiguous'>,
): Promise<Credentials> {
  const ender = new AbortController()
  const cancel = environment.after(Math.max(1, deadlineMs - environment.monotonic()), () => {
    const why = 'the credentials provider did not answer in time'
    ender.abort(new PandoError('DeadlineExceeded', why, { retryable: true }))
  })
  try {
    return await unlessAborted(unlessAborted(waiting, ender.signal), signal)
  } catch (reason) {
    signal?.throwIfAborted()
    throw reason instanceof PandoError ? reason.with(known) : reason
  } finally {
    cancel()
  }
}

function check(credentials: Credentials): void {
  if (typeof credentials?.accessKeyId !== 'string' || credentials.accessKeyId === '')
    throw invalidArgument('credentials need an accessKeyId')
  if (typeof credentials.secretAccessKey !== 'string' || credentials.secretAccessKey === '')
    throw invalidArgument('credentials need a secretAccessKey')
}
