import type { IncomingMessage, ServerResponse } from 'node:http'
import { z } from 'zod'
import type { Environment } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { Logger } from '../contract/logger.ts'
import type { AdminMethodTable } from '../control/admin-methods.ts'
import { createCallAudit, isLook, namesIn, type TellAudit } from '../control/audited-call.ts'
import { parse } from '../control/call.ts'
import { createJsonGate } from '../control/json-gate.ts'
import {
  base64OfBytes,
  checkMeant,
  checkOrigin,
  isLoopbackPeer,
  isSecure,
  readJson,
  securityHeaders,
  sendError,
  sendJson,
  sessionCookie,
  tokenOf,
} from './door.ts'
import { EventRing } from './events.ts'
import { type ConsoleKey, type FindConsoleKey, keyPrintOf, LoginDesk } from './login.ts'
import { downloadTarget, objectTarget } from './object-targets.ts'
import type { Pages } from './pages.ts'
import { SessionStore } from './sessions.ts'

/** Who is at the console, as the S3 gateway calls it. */
export interface ConsoleIdentity {
  readonly kind: 'key'
  readonly account: string
  readonly accessKeyId: string
  readonly root: boolean
}

export interface ConsoleParts {
  readonly methods: AdminMethodTable
  readonly findKey: FindConsoleKey
  /** The built front end; empty: only the API is served. */
  readonly pages: Pages
  /** Answers an S3 request of somebody who has logged in; absent: this process has no buckets. */
  readonly serveObjects?: (
    message: IncomingMessage,
    response: ServerResponse,
    identity: ConsoleIdentity,
  ) => void
  readonly problems: () => Promise<readonly string[]>
  /** For the page's head. */
  readonly facts: () => { readonly node: string; readonly region: string; readonly version: string }
  /** Told of log-ins, and of calls that change something or are refused. */
  readonly audit?: TellAudit | undefined
  readonly environment: Environment
  readonly log: Logger
}

export interface Console {
  /** False: the path is not the console's. */
  handle(message: IncomingMessage, response: ServerResponse): Promise<boolean>
  close(): void
}

/** A policy of 1 MiB in base64, and what goes with it. */
const maxPushBytes = 1_500_000
const maxCallBytes = 256 * 1024
const maxLoginBytes = 4 * 1024
const observeMs = 5_000

const loginRequest = z.object({
  accessKeyId: z.string().min(1).max(128),
  challenge: z.string().max(128),
  proof: z.string().max(128),
})

interface Visitor {
  readonly accessKeyId: string
  readonly key: ConsoleKey
  readonly endsInMs: number
}

/**
 * The console: pages, sessions, the admin methods over HTTP for who may administer, and objects for whoever has logged in. Every call is a POST with
 * a header that only our own pages can send; nothing that changes anything answers to GET.
 */
export function openConsole(parts: ConsoleParts): Console {
  const { environment, log, pages } = parts
  const { clock, randomness } = environment
  const sessions = new SessionStore(clock, randomness)
  const desk = new LoginDesk(clock, randomness, parts.findKey)
  const events = new EventRing(clock)
  const gate = createJsonGate(parts.methods)
  const audit = createCallAudit('console', clock, parts.audit)
  const closed = new AbortController()
  void observe()

  async function observe(): Promise<void> {
    while (!closed.signal.aborted) {
      const problems = await parts.problems().catch(() => undefined)
      if (problems !== undefined) events.observe(problems)
      endRevoked()
      await clock.sleep(observeMs, closed.signal).catch(() => undefined)
    }
  }

  /** Every request finds out by itself; this is for sessions that nobody used while their key was revoked. */
  function endRevoked(): void {
    try {
      sessions.keep(({ accessKeyId, keyPrint }) => {
        const key = parts.findKey(accessKeyId)
        return key !== undefined && keyPrintOf(key) === keyPrint
      })
    } catch (error) {
      // A catalog that cannot be read ends no session; no request gets by without it either.
      log.warn({ event: 'console sessions', err: error }, 'the keys of sessions could not be looked up')
    }
  }

  /** UNAUTHENTICATED without a session, with that of another key than the page means, or with one whose key is not what it was. */
  function visitorOf(message: IncomingMessage): Visitor {
    const token = tokenOf(message)
    const session = token === undefined ? undefined : sessions.find(token)
    if (token === undefined || session === undefined) {
      throw new StorageError('UNAUTHENTICATED', 'log in first')
    }
    checkMeant(message, session)
    const key = parts.findKey(session.accessKeyId)
    if (key === undefined || keyPrintOf(key) !== session.keyPrint) {
      sessions.close(token)
      throw new StorageError('UNAUTHENTICATED', 'the access key is no longer what it was: log in again')
    }
    return { accessKeyId: session.accessKeyId, key, endsInMs: session.endsMs - clock.monotonic() }
  }

  /** The same for calls, whose refusals are told. */
  function visitorAt(message: IncomingMessage, what: string): Visitor {
    try {
      return visitorOf(message)
    } catch (reason) {
      throw refused(message, what, StorageError.from(reason))
    }
  }

  /** Tells of a call that did not get past the door: of its sender nothing is proven. */
  function refused(message: IncomingMessage, what: string, error: StorageError): StorageError {
    const method = what.slice('v1/'.length)
    if (what.startsWith('v1/') && gate.kindOf(method) !== undefined)
      audit.stranger(method, message.socket.remoteAddress ?? '', error)
    return error
  }

  /**
   * The one door to administration: whoever is not let through here reads and changes nothing but objects, by S3's own rules.
   * ACCESS_DENIED.
   */
  function requireAdmin({ key, accessKeyId }: Visitor, message: IncomingMessage, what: string): void {
    if (key.admin) return
    const error = new StorageError('ACCESS_DENIED', 'this access key may not administer: the root key may')
    const method = what.slice('v1/'.length)
    if (what.startsWith('v1/') && gate.kindOf(method) !== undefined)
      audit.denied(method, accessKeyId, message.socket.remoteAddress ?? '', error)
    throw error
  }

  const sessionOf = (message: IncomingMessage, { accessKeyId, key, endsInMs }: Visitor) => ({
    ...parts.facts(),
    accessKeyId,
    account: key.account,
    isAdmin: key.admin,
    endsInMs: Math.round(endsInMs),
    hasObjects: parts.serveObjects !== undefined,
    isExposed: !isSecure(message) && !isLoopbackPeer(message),
  })

  async function logIn(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = parse(loginRequest, await readJson(message, maxLoginBytes, clock))
    const from = message.socket.remoteAddress ?? ''
    // Only the id of a key that there is: what somebody typed into the wrong field may be a secret.
    const named = parts.findKey(request.accessKeyId) === undefined ? '' : request.accessKeyId
    let key: ConsoleKey
    try {
      key = desk.prove(request, from)
      if (!key.admin && parts.serveObjects === undefined) {
        throw new StorageError('ACCESS_DENIED', 'there are no objects here: only the root key has business')
      }
    } catch (reason) {
      const error = StorageError.from(reason)
      const { code } = error
      log.warn({ event: 'console login refused', accessKeyId: named, from, code }, 'a log-in was refused')
      // Who has to wait is not told of again: the failures before are there, and their number has a bound.
      if (code !== 'OVERLOADED') {
        events.add('login', `A log-in from ${from} was refused`, named)
        const actor = code === 'ACCESS_DENIED' ? named : 'anonymous'
        audit.call({ method: 'Login', actor, from, message: { accessKeyId: named }, error })
      }
      throw error
    }
    // Whatever the browser had before is over: a session begins with a log-in and is never handed over.
    const before = tokenOf(message)
    if (before !== undefined) sessions.close(before)
    const token = sessions.open({
      accessKeyId: request.accessKeyId,
      keyPrint: keyPrintOf(key),
      admin: key.admin,
    })
    response.setHeader('set-cookie', sessionCookie(message, token))
    log.info({ event: 'console login', accessKeyId: request.accessKeyId, from }, 'logged in at the console')
    // What operators look at is not for others to fill.
    if (key.admin) events.add('login', `Logged in from ${from}`, named)
    audit.call({ method: 'Login', actor: named, from, message: {}, error: undefined })
    const session = sessions.find(token)
    sendJson(
      response,
      200,
      sessionOf(message, {
        accessKeyId: request.accessKeyId,
        key,
        endsInMs: (session?.endsMs ?? 0) - clock.monotonic(),
      }),
    )
  }

  async function call(
    message: IncomingMessage,
    response: ServerResponse,
    method: string,
    visitor: Visitor,
  ): Promise<void> {
    const kind = gate.kindOf(method)
    if (kind === undefined)
      throw new StorageError('NOT_IMPLEMENTED', `there is no method ${method.slice(0, 64)}`)
    const gone = new AbortController()
    response.once('close', () => gone.abort(new StorageError('CANCELLED', 'the caller went away')))
    const began = clock.monotonic()
    const from = message.socket.remoteAddress ?? ''
    let request: unknown
    let error: StorageError | undefined
    try {
      const body = await readJson(message, method === 'PushPolicy' ? maxPushBytes : maxCallBytes, clock)
      request = gate.messageOf(method, body)
      if (method === 'CreateKey' && !isSecure(message) && !isLoopbackPeer(message)) {
        throw new StorageError(
          'ACCESS_DENIED',
          'a secret does not travel without TLS: set tls.certFile and tls.keyFile',
        )
      }
      if (kind === 'unary') {
        const reply = await gate.call(method, request, gone.signal)
        if (method === 'SetKeyEnabled') endRevoked()
        sendJson(response, 200, reply)
      } else await sendLines(response, gate.stream(method, request, gone.signal), gone.signal)
    } catch (reason) {
      error = StorageError.from(reason)
      throw error
    } finally {
      note(method, request, visitor, error?.code ?? 'OK', began)
      audit.call({ method, actor: visitor.accessKeyId, from, message: request, error })
    }
  }

  /** Who changed what: looking at things is not worth a line. */
  function note(
    method: string,
    request: unknown,
    { accessKeyId }: Visitor,
    code: string,
    began: number,
  ): void {
    if (isLook(method)) return
    const durationMs = Math.round(clock.monotonic() - began)
    const target = targetOf(request)
    log.info(
      { event: 'console call', accessKeyId, method, target, code, durationMs },
      'a change from the console',
    )
    events.add(
      'change',
      `${method}${target === '' ? '' : ` ${target}`}${code === 'OK' ? '' : `: ${code}`}`,
      accessKeyId,
    )
  }

  async function answer(message: IncomingMessage, response: ServerResponse, path: string): Promise<boolean> {
    if (path.startsWith('/api/')) {
      response.setHeader('cache-control', 'no-store')
      if (message.method !== 'POST') throw methodNotAllowed(response, 'POST')
      const what = path.slice(5)
      try {
        checkOrigin(message)
      } catch (reason) {
        throw refused(message, what, StorageError.from(reason))
      }
      return answerApi(message, response, what)
    }
    if (path.startsWith('/s3/')) {
      if (parts.serveObjects === undefined) return false
      if (!objectVerbs.has(message.method ?? ''))
        throw methodNotAllowed(response, [...objectVerbs].join(', '))
      checkOrigin(message)
      serveObjects(message, response, objectTarget(message))
      return true
    }
    if (message.method !== 'GET' && message.method !== 'HEAD') return false
    if (path.startsWith('/download/')) {
      if (parts.serveObjects === undefined) return false
      checkOrigin(message, true)
      serveObjects(message, response, downloadTarget(message))
      return true
    }
    return pages.serve(path, message, response)
  }

  async function answerApi(
    message: IncomingMessage,
    response: ServerResponse,
    what: string,
  ): Promise<boolean> {
    switch (what) {
      case 'login/challenge':
        await readJson(message, maxLoginBytes, clock)
        sendJson(response, 200, { challenge: desk.challenge() })
        return true
      case 'login':
        await logIn(message, response)
        return true
      case 'logout': {
        const token = tokenOf(message)
        const session = token === undefined ? undefined : sessions.find(token)
        if (token !== undefined && session !== undefined) {
          // The page's own is over already; whoever has logged in since stays.
          checkMeant(message, session)
          sessions.close(token)
          const from = message.socket.remoteAddress ?? ''
          audit.call({ method: 'Logout', actor: session.accessKeyId, from, message: {}, error: undefined })
        }
        response.setHeader('set-cookie', sessionCookie(message, undefined))
        // What the browser has cached of the session's pages goes, too.
        response.setHeader('clear-site-data', '"cache", "storage"')
        sendJson(response, 200, {})
        return true
      }
    }
    const visitor = visitorAt(message, what)
    if (what === 'session') {
      sendJson(response, 200, sessionOf(message, visitor))
      return true
    }
    requireAdmin(visitor, message, what)
    if (what === 'events') {
      const { after } = parse(
        z.object({ after: z.int().min(0).default(0) }),
        await readJson(message, maxLoginBytes, clock),
      )
      sendJson(response, 200, { events: events.since(after) })
    } else if (what.startsWith('v1/')) await call(message, response, what.slice(3), visitor)
    else return false
    return true
  }

  function serveObjects(message: IncomingMessage, response: ServerResponse, target: string): void {
    const { accessKeyId, key } = visitorOf(message)
    message.url = target
    // The gateway sees a request of this key and nothing of the session it came in.
    for (const name of ['cookie', 'origin', 'host', 'authorization']) delete message.headers[name]
    // What somebody stored is never a page or a script of ours, whatever it says of itself.
    response.setHeader('content-security-policy', "default-src 'none'; sandbox")
    response.setHeader('x-content-type-options', 'nosniff')
    response.setHeader('cross-origin-resource-policy', 'same-origin')
    response.setHeader('cache-control', 'no-store')
    parts.serveObjects?.(message, response, {
      kind: 'key',
      accessKeyId,
      account: key.account,
      root: key.root,
    })
  }

  return {
    async handle(message, response) {
      const path = (message.url ?? '/').split('?', 1)[0] ?? '/'
      try {
        return await answer(message, response, path)
      } catch (reason) {
        const error = StorageError.from(reason)
        if (error.code === 'INTERNAL')
          log.error({ path: path.slice(0, 200), err: error }, 'a request of the console failed')
        // An answer that has ended tells its own error.
        if (response.writableEnded) return true
        if (response.headersSent) response.destroy()
        else sendError(response, error)
        return true
      }
    },
    close: () => closed.abort(new StorageError('CANCELLED', 'the console closes')),
  }
}

const objectVerbs: ReadonlySet<string> = new Set(['GET', 'HEAD', 'PUT', 'POST', 'DELETE'])

/** What a change was about, in a word. */
function targetOf(request: unknown): string {
  const names = namesIn(request)
  const found = ['name', 'group', 'bucket', 'accessKeyId', 'regionId'].find((field) => field in names)
  return found === undefined ? '' : (names[found] ?? '').slice(0, 128)
}

function methodNotAllowed(response: ServerResponse, allow: string): StorageError {
  response.setHeader('allow', allow)
  return new StorageError('METHOD_NOT_ALLOWED', `only ${allow}`)
}

/** One JSON object a line; an error that comes after the first line is a line, too. */
async function sendLines(
  response: ServerResponse,
  updates: AsyncIterable<unknown>,
  gone: AbortSignal,
): Promise<void> {
  response.writeHead(200, {
    ...securityHeaders,
    'content-type': 'application/x-ndjson',
    'cache-control': 'no-store',
  })
  try {
    for await (const update of updates) {
      if (gone.aborted) return
      if (!response.write(`${JSON.stringify(update, base64OfBytes)}\n`)) await drained(response, gone)
    }
    response.end()
  } catch (reason) {
    const { code, reason: text, retryable } = StorageError.from(reason)
    response.end(`${JSON.stringify({ error: { code, message: text, retryable } })}\n`)
    throw reason
  }
}

function drained(response: ServerResponse, gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    response.once('drain', resolve)
    gone.addEventListener('abort', () => resolve(), { once: true })
  })
}
