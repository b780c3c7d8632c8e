import type { Credentials } from '../client/credentials.ts'
import { hex, utf8 } from '../client/encoding.ts'
import { type ClientEnvironment, webEnvironment } from '../client/environment.ts'
import { invalidAnswer, invalidArgument, PandoError } from '../client/errors.ts'
import type { HttpAnswer } from '../client/http-answer.ts'
import { hmacSha256 } from '../client/sha256.ts'
import type { AdminChannel } from './channel.ts'
import type { AdminSession } from './types.ts'

export interface PandoAdminOptions {
  /** The console of a node, such as `http://127.0.0.1:9002`; in a page of the console itself its own origin. */
  readonly endpoint: string
  /** The root key. Left out: `login` is called with it, or a page has a session already. */
  readonly credentials?: Pick<Credentials, 'accessKeyId' | 'secretAccessKey'>
  /** For an answer to begin. Default 90 000: an election waits for the lease of the old primary to end. */
  readonly timeoutMs?: number
  /** For tests: time, randomness and network. */
  readonly environment?: ClientEnvironment
}

export interface AdminCallOptions {
  readonly signal?: AbortSignal
}

const scheme = 'pando-console-v1'

/**
 * One log-in at one node. In a page the browser keeps the session in a cookie that no script can read; elsewhere it is kept
 * here. The secret is used to answer a challenge and never sent.
 */
export class AdminConnection implements AdminChannel {
  readonly origin: string
  readonly environment: ClientEnvironment
  readonly #credentials: PandoAdminOptions['credentials']
  readonly #timeoutMs: number
  #cookie: string | undefined
  #loggingIn: Promise<AdminSession> | undefined

  constructor(options: PandoAdminOptions) {
    let url: URL
    try {
      url = new URL(options.endpoint)
    } catch {
      throw invalidArgument(`not an endpoint: ${String(options.endpoint).slice(0, 200)}`)
    }
    if (url.protocol !== 'http:' && url.protocol !== 'https:')
      throw invalidArgument('an endpoint is an http or https URL')
    this.origin = url.origin
    this.environment = options.environment ?? webEnvironment
    this.#credentials = options.credentials
    this.#timeoutMs = options.timeoutMs ?? 90_000
  }

  async login(accessKeyId: string, secretAccessKey: string): Promise<AdminSession> {
    const { challenge } = (await this.#post('login/challenge', {}, {})) as { challenge?: unknown }
    if (typeof challenge !== 'string') throw invalidAnswer('there is no challenge in the answer', this.origin)
    const key = hmacSha256(utf8(secretAccessKey), scheme)
    const proof = hex(hmacSha256(key, [scheme, challenge, accessKeyId].join('\n')))
    return (await this.#post('login', { accessKeyId, challenge, proof }, {})) as AdminSession
  }

  async logout(): Promise<void> {
    await this.#post('logout', {}, {})
    this.#cookie = undefined
  }

  session(): Promise<AdminSession> {
    return this.ask('session', {})
  }

  /** A call of the console's own. */
  async ask<T>(path: string, body: object, options: AdminCallOptions = {}): Promise<T> {
    return (await this.#withSession(() => this.#post(path, body, options))) as T
  }

  /** An admin method by its name in the proto files. */
  call<T>(method: string, body: object = {}, options: AdminCallOptions = {}): Promise<T> {
    return this.ask(`v1/${method}`, body, options)
  }

  /** A method that tells as it goes. */
  async *stream<T>(
    method: string,
    body: object,
    options: AdminCallOptions = {},
  ): AsyncGenerator<T, void, undefined> {
    const response = await this.#withSession(() => this.#send(`v1/${method}`, body, options))
    if (response.body === null) throw invalidAnswer('the answer has no body', this.origin)
    const reader = response.body.getReader()
    const decoder = new TextDecoder()
    let text = ''
    try {
      for (;;) {
        const { done, value } = await reader.read()
        if (done) break
        text += decoder.decode(value, { stream: true })
        const lines = text.split('\n')
        text = lines.pop() ?? ''
        for (const line of lines) if (line !== '') yield this.#update<T>(line)
      }
      if (text !== '') throw invalidAnswer('the answer ends in the middle of a line', this.origin)
    } finally {
      await reader.cancel().catch(() => undefined)
    }
  }

  /** Anybody may ask: it needs no session. */
  async metrics(options: AdminCallOptions = {}): Promise<string> {
    return (await this.#fetch('/metrics', { method: 'GET' }, options)).text()
  }

  events<T>(after: number, options: AdminCallOptions = {}): Promise<T> {
    return this.ask('events', { after }, options)
  }

  after(delayMs: number, callback: () => void): () => void {
    return this.environment.after(delayMs, callback)
  }

  /** The connections are the environment's; a session ends with `logout`. */
  close(): void {}

  #update<T>(line: string): T {
    const update = JSON.parse(line) as T & {
      readonly error?: { code: string; message: string; retryable: boolean }
    }
    if (typeof update.error === 'object' && update.error !== null) throw this.#errorOf(update.error, 200)
    return update
  }

  /** Logs in when there are credentials and no session, or one that has ended. */
  async #withSession<T>(attempt: () => Promise<T>): Promise<T> {
    const credentials = this.#credentials
    if (credentials === undefined) return attempt()
    if (this.#cookie !== undefined) {
      try {
        return await attempt()
      } catch (error) {
        if (!(error instanceof PandoError) || error.status !== 401) throw error
      }
    }
    this.#loggingIn ??= this.login(credentials.accessKeyId, credentials.secretAccessKey).finally(() => {
      this.#loggingIn = undefined
    })
    await this.#loggingIn
    return attempt()
  }

  async #post(path: string, body: object, options: AdminCallOptions): Promise<unknown> {
    const response = await this.#send(path, body, options)
    try {
      return JSON.parse(await response.text()) as unknown
    } catch (cause) {
      throw new PandoError('InvalidAnswer', 'the answer is not JSON', { cause, endpoint: this.origin })
    }
  }

  async #send(path: string, body: object, options: AdminCallOptions): Promise<HttpAnswer> {
    const response = await this.#fetch(
      `/api/${path}`,
      {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'x-pando-console': '1',
          ...(this.#cookie === undefined ? {} : { cookie: this.#cookie }),
        },
        body: utf8(JSON.stringify(body)) as Uint8Array<ArrayBuffer>,
      },
      options,
    )
    // A page is not told: there the browser keeps it.
    this.#cookie = response.headers.get('set-cookie')?.split(';', 1)[0] ?? this.#cookie
    if (response.status >= 200 && response.status < 300) return response
    throw await this.#refusal(response)
  }

  async #fetch(path: string, init: RequestInit, { signal }: AdminCallOptions): Promise<HttpAnswer> {
    const controller = new AbortController()
    let isLate = false
    const cancel = this.environment.after(this.#timeoutMs, () => {
      isLate = true
      controller.abort()
    })
    try {
      return await this.environment.fetch(`${this.origin}${path}`, {
        ...init,
        // Not a listener of ours: a signal may outlive thousands of calls.
        signal: signal === undefined ? controller.signal : AbortSignal.any([controller.signal, signal]),
        redirect: 'error',
        ...browserOnly,
      })
    } catch (cause) {
      if (signal?.aborted === true) throw signal.reason
      const code = isLate ? 'AttemptTimeout' : 'NetworkError'
      throw new PandoError(
        code,
        isLate ? `no answer in ${this.#timeoutMs} ms` : 'the node cannot be reached',
        {
          cause,
          retryable: true,
          ambiguous: true,
          endpoint: this.origin,
        },
      )
    } finally {
      cancel()
    }
  }

  async #refusal(response: HttpAnswer): Promise<PandoError> {
    const text = await response.text().catch(() => '')
    try {
      const { error } = JSON.parse(text) as { error: { code: string; message: string; retryable: boolean } }
      const retryAfter = Number(response.headers.get('retry-after') ?? Number.NaN)
      return this.#errorOf(error, response.status, Number.isNaN(retryAfter) ? undefined : retryAfter * 1000)
    } catch {
      return new PandoError('InvalidAnswer', `HTTP ${response.status}`, {
        status: response.status,
        endpoint: this.origin,
      })
    }
  }

  #errorOf(
    error: { readonly code: string; readonly message: string; readonly retryable: boolean },
    status: number,
    retryAfterMs?: number,
  ): PandoError {
    return new PandoError(error.code, error.message, {
      status,
      retryable: error.retryable,
      endpoint: this.origin,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    })
  }
}

/** The session is a cookie there, and no answer is kept. */
const browserOnly = { credentials: 'same-origin', cache: 'no-store' } as const
