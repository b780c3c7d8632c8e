import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AdmissionRequest, AdmissionTicket } from '../../contract/admission.ts'
import { type ErrorCode, errorCodes, StorageError } from '../../contract/errors.ts'
import type { BucketRecord, ObjectRecord } from '../../contract/object-model.ts'
import type { RequestOperation } from '../../contract/policy.ts'
import type { RequestEvent } from '../../contract/request-observer.ts'
import type { Span } from '../../contract/trace.ts'
import { checkSameKey, credentialsOf, withNewestKeys } from './authenticate/known-key.ts'
import type { Authentication, Authenticator, PayloadProtection } from './authenticate/sigv4.ts'
import { type Authorizer, isForOwner, rightsOf } from './authorize.ts'
import type { CausalRequest, CausalRequests } from './causal-requests.ts'
import { tokenHeader } from './causal-token.ts'
import { corsHeaders, refusalCorsHeaders } from './cors.ts'
import { edgeHeaders, looksElsewhere } from './edge-reads.ts'
import { accessDenied, errorResponse, noSuchBucket } from './errors.ts'
import { checkRoom, heldBackMs } from './hold-back.ts'
import { acksOf, consistencyHeader, isLocalRead } from './levels.ts'
import { slabHeader } from './local/local-door.ts'
import type { SlabBody } from './local/slab-body.ts'
import type { BucketPrimary, Credentials, Gateway, Identity, Operation, S3Response } from './operation.ts'
import { operationKind } from './operation-kind.ts'
import type { ReplicatedWrites } from './replicated-writes.ts'
import { EdgeRequest, type LocalEdge } from './request.ts'
import { SocketBody } from './request-body.ts'
import { tagsAsked } from './request-tags.ts'
import { isBodyPending, respond, sendAndDrain } from './respond.ts'
import type { Router } from './route.ts'
import type { S3ServerHooks } from './server.ts'
import { bucketNameRule, isBucketName } from './target.ts'
import { ended, endRequestSpan, tracedGateway, traceParentOf } from './traced-gateway.ts'

/** What all exchanges of a server share. */
export interface Edge {
  readonly gateway: Gateway
  readonly hooks: S3ServerHooks
  readonly authenticate: Authenticator
  readonly authorize: Authorizer
  readonly causal: CausalRequests
  readonly replicatedWrites: ReplicatedWrites
  readonly route: Router
  /** Where the request comes from an application on this machine. */
  readonly local?: LocalEdge
  nextRequestId(): string
  isClosing(): boolean
}

const anonymous: Identity = { kind: 'anonymous' }

/** One request and its answer, from the parsed header section to the last byte. */
export class Exchange implements AdmissionRequest {
  readonly message: IncomingMessage
  readonly response: ServerResponse
  body: SocketBody | SlabBody | undefined
  // What admission is told of the request, once it is known who asks for what.
  readonly id: string
  operation: RequestOperation = 'other'
  byteLength = -1
  tenant = 'anonymous'
  accessKeyId: string | undefined
  key: string | undefined
  readonly #edge: Edge
  readonly #startedMs: number
  /** Sends `100 Continue`; undefined when the client does not wait for it, or has it. */
  #sendContinue: (() => void) | undefined
  #request: EdgeRequest | undefined
  #operation: Operation | undefined
  #identity: Identity = anonymous
  /** What it was proved by, and how new the rules were then. */
  #credentials: Credentials | undefined
  #rulesSeen = 0
  readonly #admitted: Identity | undefined
  #bucket: BucketRecord | undefined
  #ticket: AdmissionTicket | undefined
  #endWait: (() => void) | undefined
  readonly #span: Span | undefined
  /** At an edge: how the answer compares with what its hub has. */
  #cache: readonly string[] = []
  #causal: CausalRequest | undefined
  #qosClass: number | undefined
  /** Answered from what this node has, without asking the others. */
  #isLocal = false
  #status = 0
  #error: ErrorCode | undefined
  #sentBytes = 0

  constructor(
    edge: Edge,
    message: IncomingMessage,
    response: ServerResponse,
    sendContinue: (() => void) | undefined,
    /** Of whom another door of the node has let in: nothing of the request is signed then. */
    admitted?: Identity,
  ) {
    this.#edge = edge
    this.#admitted = admitted
    this.message = message
    this.response = response
    this.#sendContinue = sendContinue
    this.id = edge.nextRequestId()
    this.#startedMs = edge.gateway.environment.clock.monotonic()
    edge.hooks.observer?.started()
    this.#span = edge.hooks.tracer?.begin('S3', 'server', traceParentOf(message))
  }

  get bucket(): string | undefined {
    return this.#bucket?.name
  }

  header(name: string): string | undefined {
    return this.#request?.header(name)
  }

  /** The body is wanted and the client has to send it. */
  isReading(): boolean {
    return this.body?.waiting === true
  }

  /** Nothing moves because of the client, not because of us. */
  isWaitingForClient(): boolean {
    return this.isReading() || this.response.writableNeedDrain || this.response.writableLength > 0
  }

  /** Ends an exchange whose client sends or takes nothing. */
  cut(): void {
    if (this.isReading()) {
      this.body?.cut(
        new StorageError(
          'TIMEOUT',
          'Your socket connection to the server was not read from or written to within the timeout period.',
        ),
      )
    } else this.message.socket.destroy()
  }

  /** Never rejects. */
  async run(): Promise<void> {
    const onClose = (): void => {
      if (this.response.writableFinished) return
      this.#request?.abandon()
      this.#ticket?.abandon()
    }
    this.response.once('close', onClose)
    try {
      let answer: S3Response
      try {
        answer = await this.#handle()
      } catch (reason) {
        answer = this.#answerTo(reason)
      }
      try {
        await this.#send(answer)
      } catch (reason) {
        if (typeof answer.body === 'object' && 'discard' in answer.body) answer.body.discard()
        // A body that could not even begin still gets a proper error.
        if (this.response.headersSent || this.response.destroyed) throw reason
        await this.#send(this.#answerTo(reason))
      }
    } catch (reason) {
      // The answer could not be sent whole: the client must not take it for whole.
      this.#fail(reason)
    } finally {
      this.#endWait?.()
      this.#ticket?.end(this.body?.receivedBytes ?? 0, this.#sentBytes)
      this.#qosClass = this.#ticket?.qosClass
      this.#ticket = undefined
      this.#record()
    }
  }

  async #handle(): Promise<S3Response> {
    const { gateway, route, authenticate } = this.#edge
    const request = new EdgeRequest(this.id, this.message, gateway.config.domains, this.#edge.local)
    this.#request = request
    let routeError: unknown
    try {
      this.#operation = route(request)
    } catch (error) {
      // Said only to those who may know: after authentication.
      routeError = error
    }
    let protection: PayloadProtection = { kind: 'unsigned' }
    this.#rulesSeen = gateway.catalog.rulesSeen()
    if (this.#admitted !== undefined) {
      this.#identity = this.#admitted
      if (this.#admitted.kind === 'key')
        this.#credentials = credentialsOf(gateway, this.#admitted.accessKeyId)
    } else if (this.#operation?.selfAuthorized !== true) {
      let authentication: Authentication
      try {
        authentication = authenticate(request)
      } catch (reason) {
        authentication = await withNewestKeys(gateway.catalog, reason, () => authenticate(request))
      }
      this.#identity = authentication.identity
      this.#credentials = authentication.credentials
      protection = authentication.payload
      if (authentication.presigned) request.adoptQueryHeaders()
    }
    this.body =
      this.#edge.local?.door.body(this.message, protection, gateway.chunks) ??
      new SocketBody(gateway, this.message, protection, () => this.#continue())
    request.body = this.body
    const operation = this.#operation
    if (operation === undefined) throw routeError

    const span = this.#span?.child('catalog.barrier')
    if (span === undefined) await this.#readPoint(request, operation)
    else await ended(span, () => this.#readPoint(request, operation))
    this.#enter(request, operation)
    checkRoom(gateway, this.#bucket, operation, this.body.declaredBytes ?? 0)
    const wait = this.#waits(request, operation)
    if (wait !== undefined) {
      const queued = this.#span?.child('qos.wait')
      if (queued === undefined) await wait
      else await ended(queued, () => wait)
      // While the request waited its bucket may have gone, or the right to it, or its key.
      await this.#readPoint(request, operation)
      this.#enter(request, operation)
    }
    const looks = looksElsewhere(gateway, this.#bucket, request, operation)
    const look = looks === undefined ? undefined : await looks
    if (look !== undefined) {
      // What came may be another's, or have tags that a policy asks for: what is judged is what the answer is made of.
      this.#enter(request, operation, look.record)
      this.#cache = edgeHeaders(look)
    }
    this.body.pace = this.#ticket?.pace('in')
    this.body.qosClass = this.#ticket?.qosClass
    const acks = acksOf(request)
    const asked = this.#watched(acks === undefined ? gateway : { ...gateway, acks })
    const hold = this.#edge.replicatedWrites.of(request, operation, this.#bucket, this.#identity)
    const rights = rightsOf(gateway, this.#edge.authorize, request, this.#identity)
    const answer = await operation.handle({
      request,
      identity: this.#identity,
      gateway: this.#span === undefined ? asked : tracedGateway(asked, this.#span),
      bucket: this.#bucket,
      look,
      log: gateway.log,
      authorize: rights.authorize,
      refuseDenied: rights.refuseDenied,
    })
    if (hold === undefined) return answer
    // The work is done: who waits for another region keeps nobody here waiting, and tells nothing of how busy the node is.
    this.#ticket?.end(this.body.receivedBytes, 0)
    const held = this.#span?.child('replication.wait')
    return held === undefined ? hold(answer) : ended(held, () => hold(answer))
  }

  /**
   * Who waits for another region keeps nobody here waiting, and tells nothing of how busy the node is: of a write that has to, the ticket ends
   * when it is stored.
   */
  #watched(gateway: Gateway): Gateway {
    if (this.#bucket?.replicated !== true || gateway.failover === undefined) return gateway
    const watched = this.#edge.replicatedWrites.watched(gateway, this.#identity, () =>
      this.#ticket?.end(this.body?.receivedBytes ?? 0, 0),
    )
    this.#endWait = watched.end
    return watched.gateway
  }

  /** What was acknowledged before the request came is seen from here on. */
  async #readPoint(request: EdgeRequest, operation: Operation): Promise<void> {
    const { bucketName } = request
    const { gateway } = this.#edge
    if (bucketName === undefined) {
      if (operation.listsBuckets === true && this.#identity.kind === 'key') await gateway.catalog.barrier()
      return
    }
    // Who has seen something elsewhere needs all that was acknowledged here: by it is judged whether it is there yet.
    const hasSeen = request.header(tokenHeader) !== undefined
    if (isLocalRead(request, operation) && !hasSeen) {
      await gateway.catalog.barrier('local')
      const bucket = gateway.catalog.bucket(bucketName)
      // What somebody else may see is judged by the newest rules. Who the owner is, and that there is no policy, is said by the rules that
      // are here: cut off, this node lets a key in that was revoked elsewhere, and heeds no policy that was set there.
      if (bucket !== undefined && isForOwner(gateway, bucket, this.#identity)) {
        this.#isLocal = true
        return
      }
    }
    if (operation.writesUnseen !== true || hasSeen) return gateway.catalog.barrier()
    await gateway.catalog.barrier('rules')
    // A bucket's policy may ask for the tags of the object that is there, and a stranger's right may depend on whose it is.
    const bucket = gateway.catalog.bucket(bucketName)
    if (bucket !== undefined && !isForOwner(gateway, bucket, this.#identity)) await gateway.catalog.barrier()
  }

  /** The key may have been revoked before the request came, and this node have heard of it since. INVALID_ACCESS_KEY_ID. */
  #checkKey(): void {
    if (this.#credentials === undefined || this.#identity.kind !== 'key') return
    const { gateway } = this.#edge
    const seen = gateway.catalog.rulesSeen()
    if (seen === this.#rulesSeen) return
    checkSameKey(gateway, this.#identity.accessKeyId, this.#credentials)
    this.#rulesSeen = seen
  }

  /** After each wait: finds the bucket that the request names and asks for the right to it. INVALID_BUCKET_NAME, NO_SUCH_BUCKET, ACCESS_DENIED. */
  #enter(request: EdgeRequest, operation: Operation, told?: ObjectRecord): void {
    this.#checkKey()
    const name = request.bucketName
    if (name !== undefined) {
      if (!isBucketName(name)) {
        throw new StorageError(
          'INVALID_BUCKET_NAME',
          `The specified bucket is not valid: its name has ${bucketNameRule}.`,
          { details: { BucketName: name } },
        )
      }
      this.#bucket = this.#edge.gateway.catalog.bucket(name)
      if (this.#bucket === undefined && operation.bucketOptional !== true) throw noSuchBucket(name)
    }
    if (operation.selfAuthorized !== true) this.#authorizeOperation(request, operation, told)
  }

  /**
   * For what the client has seen elsewhere, for copies in other regions that are too far behind, and then for its turn; undefined: nothing
   * to wait for.
   */
  #waits(request: EdgeRequest, operation: Operation): Promise<void> | undefined {
    const bucket = operation.selfAuthorized === true ? undefined : this.#bucket
    if (bucket !== undefined) this.#causal = this.#edge.causal.of(request, bucket, operation, this.#identity)
    const heldMs = heldBackMs(this.#edge.gateway, this.#bucket, operation)
    const seen = this.#causal?.wait
    if (heldMs === 0 && seen === undefined) return this.#takeTicket(request, operation)
    const { clock } = this.#edge.gateway.environment
    return Promise.resolve(seen)
      .then(() => (heldMs === 0 ? undefined : clock.sleep(heldMs, request.signal)))
      .then(() => this.#takeTicket(request, operation))
  }

  /** Asks to be served; a promise when there is a wait. SLOW_DOWN. */
  #takeTicket(request: EdgeRequest, operation: Operation): Promise<void> | undefined {
    this.operation = operationKind(operation.name)
    // How much a read returns is known only when it has looked.
    this.byteLength = this.operation === 'read' ? -1 : (this.body?.declaredBytes ?? -1)
    const identity = this.#identity
    if (identity.kind === 'key') {
      this.tenant = identity.account
      this.accessKeyId = identity.accessKeyId
    }
    this.key = request.key
    this.#ticket = this.#edge.hooks.admission?.admit(this)
    // The client may have gone before there was a ticket to give up.
    if (this.response.destroyed) this.#ticket?.abandon()
    return this.#ticket?.turn
  }

  #authorizeOperation(request: EdgeRequest, operation: Operation, told: ObjectRecord | undefined): void {
    const action = typeof operation.action === 'function' ? operation.action(request) : operation.action
    if (action !== null) {
      this.#edge.authorize({
        request,
        identity: this.#identity,
        action,
        bucket: this.#bucket,
        key: request.key,
        versionId: request.query.get('versionId'),
        told,
        tags: tagsAsked(this.#edge.gateway, operation, request, this.#bucket),
      })
    } else if (this.#identity.kind === 'anonymous' && operation.anonymousAllowed !== true) {
      throw accessDenied()
    }
    const expectedOwner = request.header('x-amz-expected-bucket-owner')
    if (expectedOwner !== undefined && this.#bucket !== undefined && this.#bucket.owner !== expectedOwner) {
      throw accessDenied()
    }
  }

  #continue(): void {
    this.#sendContinue?.()
    this.#sendContinue = undefined
  }

  #answerTo(reason: unknown): S3Response {
    const error = StorageError.from(reason)
    this.#error = error.code
    const { http } = errorCodes[error.code]
    if (http >= 500 && error.code !== 'NOT_IMPLEMENTED' && error.code !== 'SLOW_DOWN') {
      this.#edge.gateway.log.error(
        { err: error, requestId: this.id, bucket: this.#request?.bucketName, key: this.#request?.key },
        'a request failed',
      )
    }
    const rawTarget = this.message.url ?? ''
    const answer = errorResponse(error, { id: this.id, rawTarget })
    if (error.code !== 'NOT_PRIMARY') return answer
    const [endpoint] = this.#primary()?.endpoints ?? []
    const request = this.#request
    // Where it may be written: clients that follow sign their request anew. Pages are not shown where a redirect leads.
    if (endpoint === undefined || request === undefined || request.headers.origin !== undefined) return answer
    // Not the target as it was sent: a host that names the bucket is not the one that is named here.
    const query = request.rawQuery === '' ? '' : `?${request.rawQuery}`
    const location = `${endpoint}${request.resourcePath}${query}`
    return { ...answer, status: 307, headers: { ...answer.headers, location } }
  }

  /** Who writes the bucket, where it is in a failover group. */
  #primary(): BucketPrimary | undefined {
    const bucket = this.#bucket
    return bucket?.replicated === true ? this.#edge.gateway.failover?.primaryOf(bucket.id) : undefined
  }

  /** Clients that know several regions learn from every answer where to write, and never go back to an older epoch. */
  #addPrimary(fields: string[]): void {
    if (this.#bucket?.replicated !== true) return
    fields.push('x-pando-region', String(this.#edge.gateway.replication?.regionId ?? 0))
    const primary = this.#primary()
    if (primary === undefined) return
    fields.push('x-pando-primary', String(primary.primary), 'x-pando-epoch', String(primary.epoch))
  }

  async #send(answer: S3Response): Promise<void> {
    const { message, response } = this
    this.#status = answer.status
    if (answer.error !== undefined) this.#error = answer.error
    const common = ['x-amz-request-id', this.id, 'x-amz-id-2', 'pando', 'server', 'Pando']
    const door = this.#edge.local?.door
    const identity = this.#identity
    const slab = identity.kind === 'key' ? door?.offer(message, identity.account) : undefined
    if (slab !== undefined) common.push(slabHeader, slab)
    this.#addCors(common)
    common.push(...this.#cache)
    if (this.#isLocal) common.push(consistencyHeader, 'local')
    this.#addPrimary(common)
    if (this.#causal !== undefined) common.push(...this.#causal.fields(answer))
    // An answer that comes before the body has been read ends the connection, or the rest of the body would be taken for
    // the next request. With a client that still waits for `100 Continue` nobody knows whether it will send it.
    const refused = !message.complete && isBodyPending(message)
    if (refused || this.#edge.isClosing()) common.push('connection', 'close')
    if (refused && this.#sendContinue === undefined && typeof answer.body === 'string') {
      this.#sentBytes = await sendAndDrain(message, response, answer, common, answer.body)
    } else {
      if (typeof answer.body === 'object' && 'discard' in answer.body) {
        answer.body.pace = this.#ticket?.pace('out')
        answer.body.qosClass = this.#ticket?.qosClass
      }
      this.#sentBytes = await respond(response, answer, common, message.method === 'HEAD', (bytes) =>
        door?.answer(message, bytes),
      )
    }
  }

  #addCors(fields: string[]): void {
    const request = this.#request
    if (request === undefined || request.headers.origin === undefined) return
    const { gateway } = this.#edge
    const bucket = this.#bucket
    const headers =
      bucket === undefined ? refusalCorsHeaders(gateway, request) : corsHeaders(gateway, request, bucket)
    if (headers !== undefined) for (const [name, value] of Object.entries(headers)) fields.push(name, value)
  }

  #fail(reason: unknown): void {
    const error = StorageError.from(reason)
    this.#error = error.code
    if (error.code === 'CANCELLED') this.#status = 499
    else {
      this.#edge.gateway.log.error(
        { err: error, requestId: this.id, bucket: this.#request?.bucketName, key: this.#request?.key },
        'an answer was cut off',
      )
    }
    this.response.destroy()
  }

  #record(): void {
    const { observer } = this.#edge.hooks
    if (observer === undefined && this.#span === undefined) return
    const event: { -readonly [Field in keyof RequestEvent]: RequestEvent[Field] } = {
      requestId: this.id,
      operation: this.#operation?.name ?? 'Unknown',
      method: this.message.method ?? '',
      status: this.#status,
      durationMs: this.#edge.gateway.environment.clock.monotonic() - this.#startedMs,
      bytesIn: this.body?.receivedBytes ?? 0,
      bytesOut: this.#sentBytes,
      remoteAddress: this.#request?.remoteAddress ?? '',
    }
    if (this.#error !== undefined) event.errorCode = errorCodes[this.#error].s3
    if (this.#request?.bucketName !== undefined) event.bucketName = this.#request.bucketName
    if (this.#request?.key !== undefined) event.key = this.#request.key
    if (this.#qosClass !== undefined) event.qosClass = this.#qosClass
    if (this.#identity.kind === 'key') event.accessKeyId = this.#identity.accessKeyId
    if (this.#span !== undefined) endRequestSpan(this.#span, event, this.#error)
    observer?.finished(event)
  }
}
