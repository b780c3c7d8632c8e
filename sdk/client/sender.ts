import { errorOfAnswer, errorOfFailure, maxDocumentBytes, readText } from './answers.ts'
import type { ApiAnswer, ApiRequest } from './api-request.ts'
import { CausalHistory } from './causal-history.ts'
import { type Credentials, type CredentialsSource, credentialsInTime } from './credentials.ts'
import { encodeKey, encodeQuery, keyPath } from './encoding.ts'
import type { EndpointPool, PooledEndpoint } from './endpoints.ts'
import { type ClientEnvironment, sleep } from './environment.ts'
import { PandoError } from './errors.ts'
import { type AnswerHeaders, answerOf } from './http-answer.ts'
import { LatencyWindow } from './latency.ts'
import type { ClientLimits } from './options.ts'
import { payloadOf } from './payload.ts'
import { Primaries } from './primaries.ts'
import { backoffMs, RetryBudget, withIdempotencyKey } from './retry.ts'
import { signedHeaders } from './signature.ts'
import { type Span, startSpan } from './spans.ts'
import type { FindWay } from './transport.ts'
import { type ClientWishes, replicationWaitMs, wishHeaders } from './wishes.ts'

export interface SenderParts {
  readonly environment: ClientEnvironment
  readonly pool: EndpointPool
  readonly credentials: CredentialsSource | undefined
  readonly limits: ClientLimits
  readonly retryBudget: number
  readonly hedgedReads: boolean
  readonly isCausal: boolean
  readonly wishes: ClientWishes
  readonly way: FindWay
}

/** A body has as much more time as it takes at this rate. */
const slowestBytesPerMs = 65.536
const backoff = { firstMs: 50, longestMs: 5000 }
/** No server makes a client wait longer than this between two attempts. */
const longestRetryAfterMs = 30_000
const maxRestarts = 3
/** Between two rounds of asking while nobody leads a failover group. */
const followMs = 250

/** Sends requests: signs them, chooses gateways, waits, retries, hedges. Everything that talks to a server goes through. */
export class Sender {
  readonly environment: ClientEnvironment
  readonly pool: EndpointPool
  readonly limits: ClientLimits
  /** Who writes the buckets that have a primary. */
  readonly primaries: Primaries
  /** What was written and seen of the buckets that several regions hold. */
  readonly history = new CausalHistory()
  readonly #isCausal: boolean
  readonly #credentials: CredentialsSource | undefined
  readonly #budget: RetryBudget
  /** One read in twenty may be asked for twice. */
  readonly #hedgeBudget = new RetryBudget(5, 20)
  readonly #latency = new LatencyWindow()
  readonly #hedgedReads: boolean
  readonly #wishes: ClientWishes
  readonly #way: FindWay
  /** What the server's clock is ahead of ours, once one has complained. */
  #clockOffsetMs = 0

  constructor(parts: SenderParts) {
    this.environment = parts.environment
    this.pool = parts.pool
    this.primaries = new Primaries(parts.pool)
    this.limits = parts.limits
    this.#credentials = parts.credentials
    this.#budget = new RetryBudget(parts.retryBudget, 10)
    this.#hedgedReads = parts.hedgedReads
    this.#isCausal = parts.isCausal
    this.#wishes = parts.wishes
    this.#way = parts.way
  }

  /** Rejects with a PandoError, or with the signal's reason. */
  async send(request: ApiRequest): Promise<ApiAnswer> {
    const span = startSpan(request.operation, request.bucket, request.key)
    if (span === undefined) return this.#sendWithRetries(request, undefined)
    try {
      const answer = await this.#sendWithRetries(request, span)
      span.set('http.response.status_code', answer.status)
      span.set('http.request.resend_count', answer.attempts - 1)
      span.set('server.address', answer.endpoint.host)
      span.end()
      return answer
    } catch (error) {
      span.end(error)
      throw error
    }
  }

  async #sendWithRetries(asked: ApiRequest, span: Span | undefined): Promise<ApiAnswer> {
    const { environment, limits } = this
    const request = withIdempotencyKey(asked, environment, this.#credentials !== undefined)
    const { signal } = request.options
    const deadlineMs = environment.monotonic() + (request.options.deadlineMs ?? limits.deadlineMs)
    const tried = new Set<PooledEndpoint>()
    let ambiguous = false
    let restarts = 0
    /** The region that surely has what another one lacks. */
    let origin: number | undefined
    /** The write is stored; that another region has it, which it waits for, was not told yet. */
    let pending: PandoError | undefined
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted()
      const waiting = this.#credentials?.get()
      const credentials =
        waiting instanceof Promise
          ? await credentialsInTime(waiting, environment, deadlineMs, signal, {
              attempts: attempt - 1,
              ambiguous,
            })
          : waiting
      const endpoint = this.pool.pick(
        tried,
        request.region ?? origin ?? this.primaries.of(request.bucket)?.region,
      )
      let error: PandoError
      try {
        const answer = await this.#attemptHedged(request, endpoint, credentials, deadlineMs, span)
        this.#budget.succeeded()
        return { ...answer, attempts: attempt, ambiguous }
      } catch (reason) {
        signal?.throwIfAborted()
        if (!(reason instanceof PandoError)) throw reason
        error = reason.with({ attempts: attempt, ambiguous: reason.ambiguous || ambiguous })
      }
      span?.event('attempt failed', { code: error.code, attempt })
      ambiguous = error.ambiguous
      // Not a failure of the server: asked again at once, and not often.
      if (restarts < maxRestarts && this.#mend(error, endpoint, credentials)) {
        restarts += 1
        attempt -= 1
        continue
      }
      // A change of the primary takes seconds: it is waited for as long as the call may take, at a slow pace.
      const isBehind = isOfRegion(error)
      if (error.code === 'ReplicationPending') {
        // It is stored: without a key it would be written once more with each attempt.
        if (request.once !== undefined && this.#credentials === undefined) throw error
        pending = error
      }
      if (isBehind) origin = Number(error.details['OriginRegion'] ?? Number.NaN)
      const isFollowing =
        error.retryable &&
        (isBehind || (error.code !== 'LocalUnavailable' && this.primaries.of(request.bucket) !== undefined))
      if (isFollowing) attempt -= 1
      else if (!error.retryable || attempt >= limits.maxAttempts || !this.#budget.take()) throw error
      // Asked again of another region it could be written a second time.
      if (error !== pending) tried.add(endpoint)
      // Others have not been asked yet: no need to wait before the first of them is.
      const elsewhere = tried.size < this.pool.size && error.code !== 'SlowDown' && error !== pending
      const { retryAfterMs } = error
      const waitMs = elsewhere
        ? environment.random() * backoff.firstMs
        : isFollowing
          ? followMs * (0.5 + environment.random())
          : backoffMs(
              attempt,
              backoff,
              environment.random(),
              retryAfterMs === undefined ? undefined : Math.min(retryAfterMs, longestRetryAfterMs),
            )
      if (tried.size >= this.pool.size) tried.clear()
      if (environment.monotonic() + waitMs >= deadlineMs) {
        if (pending !== undefined) throw pending
        throw new PandoError('DeadlineExceeded', `no success in time; the last attempt: ${error.message}`, {
          cause: error,
          attempts: attempt,
          retryable: true,
          ambiguous: error.ambiguous,
          endpoint: endpoint.origin,
        })
      }
      await sleep(environment, waitMs, signal)
    }
  }

  /** What a server says about the request's time, region or credentials is put right. */
  #mend(error: PandoError, endpoint: PooledEndpoint, credentials: Credentials | undefined): boolean {
    switch (error.code) {
      case 'RequestTimeTooSkewed': {
        const serverMs = Date.parse(error.details['ServerTime'] ?? error.details['Date'] ?? '')
        if (Number.isNaN(serverMs)) return false
        this.#clockOffsetMs = serverMs - this.environment.now()
        return true
      }
      case 'AuthorizationHeaderMalformed': {
        const region = error.details['Region']
        if (region === undefined || region === '') return false
        endpoint.region = region
        return true
      }
      case 'ExpiredToken':
      case 'TokenRefreshRequired':
        return credentials !== undefined && this.#credentials?.expire(credentials) === true
      // The transport had a way that is there no more: it knows another one now, or that there is none.
      case 'LocalUnavailable':
        return error.cause !== undefined
      default:
        return false
    }
  }

  /** One attempt, and for reads another one beside it when it is slow. The first success counts, the other one is ended. */
  async #attemptHedged(
    request: ApiRequest,
    endpoint: PooledEndpoint,
    credentials: Credentials | undefined,
    deadlineMs: number,
    span: Span | undefined,
  ): Promise<Attempted> {
    const traceParent = isPage ? undefined : span?.traceParent
    const ask = (at: PooledEndpoint, lost: AbortSignal | undefined): Promise<Attempted> =>
      this.#attempt(request, at, credentials, deadlineMs, lost, traceParent)
    if (request.hedge !== true) return ask(endpoint, undefined)
    const startedMs = this.environment.monotonic()
    const record = (answer: Attempted): Attempted => {
      this.#latency.add(this.environment.monotonic() - startedMs)
      return answer
    }
    this.#hedgeBudget.succeeded()
    const second =
      this.#hedgedReads && this.#latency.p95Ms < this.limits.attemptTimeoutMs
        ? this.pool.beside(endpoint)
        : undefined
    if (second === undefined) return ask(endpoint, undefined).then(record)

    const enders = [new AbortController(), new AbortController()] as const
    let cancelTimer = (): void => {}
    let hedgeBegan = false
    const first = ask(endpoint, enders[0].signal)
    const hedge = new Promise<Attempted>((resolve, reject) => {
      cancelTimer = this.environment.after(this.#latency.p95Ms, () => {
        if (!this.#hedgeBudget.take()) return
        hedgeBegan = true
        span?.event('hedged', { endpoint: second.host })
        ask(second, enders[1].signal).then(resolve, reject)
      })
    })
    try {
      const winner = await Promise.race([
        first.catch((error: unknown) => {
          if (hedgeBegan) return hedge
          throw error
        }),
        hedge.catch(() => first),
      ])
      // The loser may have been answered in the same turn: its body must not stay open.
      const loser = winner.endpoint === second ? first : hedge
      loser.then((answer) => answer !== winner && answer.discard()).catch(() => {})
      enders[winner.endpoint === second ? 0 : 1].abort()
      return record(winner)
    } finally {
      cancelTimer()
    }
  }

  async #attempt(
    request: ApiRequest,
    endpoint: PooledEndpoint,
    credentials: Credentials | undefined,
    deadlineMs: number,
    lost: AbortSignal | undefined,
    traceParent: string | undefined,
  ): Promise<Attempted> {
    const { environment } = this
    const { signal } = request.options
    const found = this.#way(endpoint.origin)
    const way = found instanceof Promise ? await found : found
    const { body } = request
    const hash = payloadOf(request, credentials, way)
    const payload = hash instanceof Promise ? await hash : hash
    const seen =
      request.headers?.[tokenHeader] ?? (this.#isCausal ? this.history.of(request.bucket) : undefined)
    const leftMs = deadlineMs - environment.monotonic()
    const { url, headers } = this.#address(request, endpoint, credentials, payload, seen, leftMs)
    // Not signed: whoever is on the way may put a span of his own in between.
    if (traceParent !== undefined) headers['traceparent'] = traceParent

    const controller = new AbortController()
    const onAbort = (): void => controller.abort(signal?.reason)
    const onLost = (): void => controller.abort()
    signal?.addEventListener('abort', onAbort, { once: true })
    lost?.addEventListener('abort', onLost, { once: true })
    if (signal?.aborted === true) onAbort()
    if (lost?.aborted === true) onLost()
    const detach = (): void => {
      signal?.removeEventListener('abort', onAbort)
      lost?.removeEventListener('abort', onLost)
    }
    const bodyMs = (body?.length ?? 0) / slowestBytesPerMs
    const timeoutMs = Math.max(1, Math.min(this.limits.attemptTimeoutMs + bodyMs, leftMs))
    let timedOut = false
    const cancelTimer = environment.after(timeoutMs, () => {
      timedOut = true
      controller.abort()
    })
    let handedOver = false
    try {
      const response = await (way ?? environment).fetch(url, {
        method: request.method,
        headers,
        signal: controller.signal,
        // A redirect would lose the signature, or carry it to a stranger.
        redirect: 'manual',
        ...(body === undefined ? {} : { body: body as Uint8Array<ArrayBuffer> }),
        ...browserOnly,
      })
      this.primaries.learn(request.bucket, endpoint, response.headers)
      this.#remember(request, response.headers, seen)
      if (response.status < 200 || response.status >= 300) {
        const error = await errorOfAnswer(request, response, endpoint.origin, environment.now())
        throw this.#judged(error, request, seen)
      }
      if (request.answer === 'stream') {
        handedOver = true
        this.pool.succeeded(endpoint)
        // The signal goes on to end the body: the listener goes with the controller when the body has been read.
        const discard = (): void => {
          detach()
          controller.abort()
        }
        return {
          status: response.status,
          headers: response.headers,
          text: '',
          response,
          endpoint,
          discard,
          detach,
        }
      }
      const text = request.method === 'HEAD' ? '' : await readText(response, maxDocumentBytes)
      // S3 begins the answer of long operations before it knows how they end.
      if (text.includes('<Error>') && /^\s*(<\?xml[^>]*>)?\s*<Error>/.test(text)) {
        throw await errorOfAnswer(request, answerOf(500, text), endpoint.origin, environment.now())
      }
      if (request.region !== undefined && endpoint.regionId !== request.region) {
        throw wrongRegion(request.region, endpoint.origin, this.pool.mayReach(request.region))
      }
      this.pool.succeeded(endpoint)
      return {
        status: response.status,
        headers: response.headers,
        text,
        response,
        endpoint,
        discard() {},
        detach,
      }
    } catch (reason) {
      if (signal?.aborted === true) throw signal.reason
      if (lost?.aborted === true) throw reason
      const error = timedOut
        ? new PandoError(
            'AttemptTimeout',
            `${endpoint.origin} did not answer within ${Math.round(timeoutMs)} ms`,
            {
              retryable: true,
              ambiguous: true,
              endpoint: endpoint.origin,
              cause: reason,
            },
          )
        : errorOfFailure(reason, endpoint.origin, way !== undefined)
      // An answer, even a refusal, is a sign of life; overload and what breaks connections is not. Of a failover group it says that
      // nobody leads it now.
      if (
        error.status === undefined ||
        (error.status === 503 && !isOfRegion(error) && this.primaries.of(request.bucket) === undefined) ||
        error.status === 502 ||
        error.status === 504
      ) {
        const isOurs = error.code === 'InvalidArgument' || error.code === 'LocalUnavailable'
        if (!isOurs && !isOfRegion(error)) this.pool.failed(endpoint)
      }
      throw error
    } finally {
      cancelTimer()
      if (!handedOver) detach()
    }
  }

  #remember({ bucket }: ApiRequest, headers: AnswerHeaders, seen: string | undefined): void {
    const told = headers.get(tokenHeader)
    if (bucket === undefined || told === null) return
    try {
      this.history.learn(bucket, told, seen)
    } catch {
      // Of a newer server perhaps: an answer is not worth less for it.
    }
  }

  /** What cannot be had any more is said once, and then not asked for again. */
  #judged(error: PandoError, { bucket, method }: ApiRequest, seen: string | undefined): PandoError {
    if (bucket === undefined || seen === undefined) return error
    // The answer to a HEAD has no document that says what is the matter.
    const isLost = error.code === 'WriteLost' || (method === 'HEAD' && error.status === 409)
    if (
      isLost ||
      (error.status === 400 && (method === 'HEAD' || error.details['ArgumentName'] === tokenHeader))
    ) {
      this.history.forget(bucket, seen)
    }
    if (!isLost || error.code === 'WriteLost') return error
    const { endpoint, status } = error
    return new PandoError('WriteLost', 'what was seen or written did not survive a failover (HeadObject)', {
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(status === undefined ? {} : { status }),
    })
  }

  #address(
    request: ApiRequest,
    endpoint: PooledEndpoint,
    credentials: Credentials | undefined,
    payload: string,
    seen: string | undefined,
    leftMs: number,
  ): { url: string; headers: Record<string, string> } {
    const { bucket, key } = request
    const query = request.query === undefined ? '' : encodeQuery(request.query)
    const prefix = bucket === undefined ? '/' : `/${bucket}`
    const path = key === undefined ? prefix : `${prefix}/${encodeKey(key)}`
    const sentPath = key === undefined ? prefix : `${prefix}/${keyPath(key)}`
    const waitMs = replicationWaitMs(Math.min(this.limits.attemptTimeoutMs, leftMs))
    const headers = { ...wishHeaders(this.#wishes, request, waitMs), ...request.headers }
    if (seen !== undefined) headers[tokenHeader] = seen
    // fetch would add a content type of its own, which is not signed, to some bodies.
    return {
      url: `${endpoint.origin}${sentPath}${query === '' ? '' : `?${query}`}`,
      headers:
        credentials === undefined
          ? headers
          : signedHeaders({
              method: request.method,
              host: endpoint.host,
              path,
              query,
              headers,
              payload,
              credentials,
              region: endpoint.region,
              timeMs: this.environment.now() + this.#clockOffsetMs,
            }),
    }
  }

  /** For a body that is asked for again. */
  takeRetry(): boolean {
    return this.#budget.take()
  }

  /** The time that servers agree with, for what is signed elsewhere. */
  signingTimeMs(): number {
    return this.environment.now() + this.#clockOffsetMs
  }

  get credentials(): CredentialsSource | undefined {
    return this.#credentials
  }
}

interface Attempted extends Omit<ApiAnswer, 'attempts' | 'ambiguous'> {
  /** Stops listening to the caller's signal. */
  detach(): void
}

const tokenHeader = 'x-pando-token'

/** Says nothing against the gateway: its region is behind, or another one than was asked for. */
const isOfRegion = ({ code }: PandoError): boolean =>
  code === 'ReplicaBehind' || code === 'WrongRegion' || code === 'ReplicationPending'

const wrongRegion = (region: number, endpoint: string, isElsewhere: boolean): PandoError =>
  new PandoError('WrongRegion', `${endpoint} is no gateway of region ${region}`, {
    retryable: isElsewhere,
    endpoint,
  })

/** A header more would have to be allowed by each bucket's CORS rules: pages trace on their side alone. */
const isPage = 'document' in globalThis

/** A page's cookies are none of the server's business, and its cache would answer for it. */
const browserOnly = { credentials: 'omit', cache: 'no-store' } as const
