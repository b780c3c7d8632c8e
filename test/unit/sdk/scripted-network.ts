import type { ClientEnvironment } from '../../../sdk/client/environment.ts'
import { PandoClient, type PandoClientOptions } from '../../../sdk/index.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

/** Servers that do what a test says, on a clock that goes when the test says. */
export interface ScriptedNetwork {
  readonly clock: FakeClock
  readonly environment: ClientEnvironment
  /** Every request, in order: method, host, path and query, headers. */
  readonly requests: SentRequest[]
  /** Answers a host's requests. */
  serve(host: string, answer: (request: SentRequest) => Response | Promise<Response>): void
  client(options?: Partial<PandoClientOptions>): PandoClient
}

export interface SentRequest {
  readonly host: string
  readonly method: string
  readonly target: string
  readonly headers: Headers
  readonly body: Uint8Array | undefined
  readonly atMs: number
  readonly signal: AbortSignal
}

export function scriptNetwork(): ScriptedNetwork {
  const clock = new FakeClock(1000, 60)
  const servers = new Map<string, (request: SentRequest) => Response | Promise<Response>>()
  const requests: SentRequest[] = []
  const environment: ClientEnvironment = {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    random: () => 0.5,
    after(delayMs, callback) {
      const cancel = new AbortController()
      clock.sleep(delayMs, cancel.signal).then(callback, () => {})
      return () => cancel.abort()
    },
    async fetch(url, init) {
      const { host, pathname, search } = new URL(url)
      const { signal } = init
      const request: SentRequest = {
        host,
        method: init.method ?? '',
        target: pathname + search,
        headers: new Headers(init.headers as Record<string, string>),
        body: init.body as Uint8Array | undefined,
        atMs: clock.monotonic(),
        signal: signal as AbortSignal,
      }
      requests.push(request)
      const server = servers.get(host)
      if (server === undefined)
        throw Object.assign(new TypeError('fetch failed'), { cause: { code: 'ECONNREFUSED' } })
      const answer = Promise.resolve(server(request))
      return new Promise((resolve, reject) => {
        const onAbort = (): void => reject(signal?.reason)
        signal?.addEventListener('abort', onAbort, { once: true })
        answer.then(resolve, reject)
      })
    },
  }
  return {
    clock,
    environment,
    requests,
    serve: (host, answer) => servers.set(host, answer),
    client: (options = {}) =>
      new PandoClient({
        endpoints: ['http://a'],
        credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
        environment,
        ...options,
      }),
  }
}

export const ok = (headers: Record<string, string> = {}, body = ''): Response =>
  new Response(body, {
    status: 200,
    headers: { etag: '"e"', 'content-length': `${body.length}`, ...headers },
  })

export const refusal = (
  status: number,
  code: string,
  more = '',
  headers: Record<string, string> = {},
): Response =>
  new Response(`<Error><Code>${code}</Code><Message>m</Message>${more}</Error>`, { status, headers })

/** A server that takes the request and says nothing. */
export const silence = (): Promise<Response> => new Promise(() => {})

/** A connection that breaks after the request was sent. */
export const reset = (): never => {
  throw Object.assign(new TypeError('fetch failed'), { cause: { code: 'ECONNRESET' } })
}

/** What becomes of a promise; the clock has to be advanced for it to become anything. */
export function watch<T>(promise: Promise<T>): { value?: T; error?: unknown } {
  const seen: { value?: T; error?: unknown } = {}
  promise.then(
    (value) => {
      seen.value = value
    },
    (error: unknown) => {
      seen.error = error
    },
  )
  return seen
}
