import { AckPolicy, DeliverPolicy, type JetStreamManager, ReplayPolicy } from '@nats-io/jetstream'
import { createInbox, type Msg, nanos } from '@nats-io/transport-node'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { StreamRecord } from '../../contract/order-stream.ts'
import { untilAborted } from './aborted.ts'
import type { LiveConnection } from './connection.ts'
import { natsFailure } from './failure.ts'

export interface TailRequest {
  readonly name: string
  readonly after: number
  readonly signal: AbortSignal
  readonly closing: AbortSignal
  readonly clock: Clock
  /** Names the consumer; used once. */
  readonly token: string
  readonly timeoutMs: number
  connected(): Promise<{ readonly live: LiveConnection; readonly manager: JetStreamManager }>
  state(): Promise<{ readonly first: number; readonly last: number }>
}

/** A request to the server asks for so much at most; the next one follows when its records have been taken away. */
const batchRecords = 256
const batchBytes = 4 * 1024 * 1024
const requestMs = 30_000
/** The server shows so often that it still has our request. */
const heartbeatMs = 1_000
/**
 * A request that is silent for so long is made again, once; then the consumer counts as gone. (A request whose bytes are used up
 * to the last one ends without a word.)
 */
const silenceMs = 3_500
/** The server forgets a consumer that nobody asks; a reader may be busy for so long. */
const inactiveMs = 300_000

/**
 * Records behind `after` from a consumer of our own. What has been asked for and not been taken away is bounded by two requests:
 * a reader that stands still stops the stream at the server.
 */
export async function* tailStream(request: TailRequest): AsyncGenerator<readonly StreamRecord[]> {
  const { name, after, signal, closing, clock } = request
  if (signal.aborted) return
  const what = `tail of ${name}`
  try {
    const { first, last } = await request.state()
    if (after + 1 < first) throw trimmed(name, after + 1, first)
    if (after > last) {
      throw new StorageError('UNAVAILABLE', `${name} ends at ${last}, and was to be read behind ${after}`)
    }
    const { live, manager } = await request.connected()
    const consumer = `pando-${request.token}`
    await untilAborted(
      manager.consumers.add(name, {
        name: consumer,
        ack_policy: AckPolicy.None,
        deliver_policy: DeliverPolicy.StartSequence,
        opt_start_seq: after + 1,
        replay_policy: ReplayPolicy.Instant,
        inactive_threshold: nanos(inactiveMs),
        mem_storage: true,
        num_replicas: 1,
      }),
      [signal, live.lost, closing],
    )
    try {
      yield* pull(request, live, consumer)
    } finally {
      if (!live.lost.aborted) manager.consumers.delete(name, consumer).catch(() => {})
    }
  } catch (error) {
    if (signal.aborted) return
    if (closing.aborted) throw new StorageError('CLOSED', 'the streams were closed')
    // A gap is the trace of a trim that overtook us, or of something worse: the caller finds out.
    if (error instanceof GapError) {
      const { first } = await request.state()
      if (error.expected < first) throw trimmed(name, error.expected, first)
    }
    throw natsFailure(what, error)
  }

  async function* pull(
    { name, after, signal, closing }: TailRequest,
    live: LiveConnection,
    consumer: string,
  ): AsyncGenerator<readonly StreamRecord[]> {
    const { nats } = live
    const inbox = createInbox()
    const ended = new AbortController()
    let received: StreamRecord[] = []
    let next = after + 1
    /** Records that the request may still bring. */
    let leftRecords = 0
    let heardMs = clock.monotonic()
    let wake = (): void => {}

    const ask = (): void => {
      leftRecords = batchRecords
      heardMs = clock.monotonic()
      const body = {
        batch: batchRecords,
        max_bytes: batchBytes,
        expires: nanos(requestMs),
        idle_heartbeat: nanos(heartbeatMs),
      }
      nats.publish(`$JS.API.CONSUMER.MSG.NEXT.${name}.${consumer}`, JSON.stringify(body), { reply: inbox })
    }
    const onMessage = (message: Msg): void => {
      heardMs = clock.monotonic()
      const sequence = sequenceOf(message.reply)
      if (sequence !== undefined) {
        if (sequence !== next) {
          ended.abort(new GapError(name, next, sequence))
          return
        }
        next++
        leftRecords--
        // Not a Buffer, whose `slice` would go on sharing memory where that of a Uint8Array copies.
        const { buffer, byteOffset, byteLength } = message.data
        received.push({ sequence, bytes: new Uint8Array(buffer, byteOffset, byteLength) })
      } else {
        const status = message.headers?.code ?? 0
        const text = message.headers?.description ?? ''
        if (status === 100) return
        // The request has ended: nothing there, time is up, or no room for the next record in what it may bring.
        if (status === 404 || status === 408 || (status === 409 && /maxbytes|batch completed/i.test(text))) {
          leftRecords = 0
        } else {
          ended.abort(
            new StorageError('UNAVAILABLE', `tail of ${name}: the consumer ended: ${status} ${text}`),
          )
        }
      }
      wake()
    }
    const subscription = nats.subscribe(inbox, {
      callback: (error, message) => {
        if (error === null) onMessage(message)
        else ended.abort(error)
      },
    })
    // The server's silence is noticed without a timer per message.
    const watch = async (): Promise<void> => {
      let asked = false
      while (!stop.aborted) {
        await clock.sleep(heartbeatMs, stop)
        const isWaiting = leftRecords > 0 && received.length === 0
        if (!isWaiting || clock.monotonic() - heardMs < silenceMs) {
          asked &&= clock.monotonic() - heardMs >= heartbeatMs
          continue
        }
        if (asked) ended.abort(new StorageError('UNAVAILABLE', `tail of ${name}: the consumer is silent`))
        asked = true
        ask()
      }
    }
    const stop = AbortSignal.any([signal, closing, live.lost, ended.signal])
    const onStop = (): void => wake()
    stop.addEventListener('abort', onStop)
    watch().catch(() => {})
    try {
      ask()
      for (;;) {
        if (received.length > 0) {
          const batch = received
          received = []
          if (leftRecords <= 0) ask()
          yield batch
          continue
        }
        if (stop.aborted) throw stop.reason
        if (leftRecords <= 0) ask()
        await new Promise<void>((resolve) => {
          wake = resolve
          if (received.length > 0 || stop.aborted || leftRecords <= 0) resolve()
        })
      }
    } finally {
      stop.removeEventListener('abort', onStop)
      ended.abort(new StorageError('CANCELLED', 'the reader has left'))
      subscription.unsubscribe()
    }
  }
}

class GapError extends Error {
  override readonly name = 'GapError'
  readonly expected: number
  constructor(stream: string, expected: number, came: number) {
    super(`a gap in ${stream}: ${came} came where ${expected} was due`)
    this.expected = expected
  }
}

function trimmed(name: string, wanted: number, first: number): StorageError {
  return new StorageError('LOG_TRIMMED', `record ${wanted} of ${name} is gone; the oldest kept is ${first}`)
}

/**
 * The stream's sequence of a delivered message, out of the subject that would acknowledge it:
 * `$JS.ACK.<stream>.<consumer>.<tries>.<sequence>.…`, with `<domain>.<account>` behind ACK in servers that know those.
 */
function sequenceOf(reply: string | undefined): number | undefined {
  if (reply?.startsWith('$JS.ACK.') !== true) return undefined
  const tokens = reply.split('.')
  const text = tokens.length === 9 ? tokens[5] : tokens[7]
  const sequence = Number(text)
  return Number.isSafeInteger(sequence) ? sequence : undefined
}
