import assert from 'node:assert/strict'
import type { Random } from '../../kit/random.ts'
import type { S3Client, S3Reply } from '../../kit/s3-client.ts'
import { bytesOf, type Content, openLedger, simpleContent } from '../durability/ledger.ts'

/**
 * Clients that write, overwrite, delete and read back at all gateways of a region while it is hurt. What was acknowledged must be
 * there for ever after, at every gateway; what was answered with an error or not at all may have happened or not, also later.
 */
export interface RegionLoad {
  /** Starts the clients; they go on until `stop`. */
  start(): void
  /** Resolves when the last answer has come. Rejects when the service has answered wrongly. */
  stop(): Promise<void>
  /** A client waits so long between an answer and its next request, give or take a half; 0: it keeps the region as busy as it can. */
  setThinkMs(thinkMs: number): void
  /** Gateways that are asked; the others are left alone. */
  setGateways(clients: readonly S3Client[]): void
  /** Reads every key at the gateway and compares it with what was promised. Only while stopped. */
  verify(client: S3Client): Promise<void>
  /** Longest time without a success since the last call, and how it went. */
  takeOutage(): Outage
  /** Milliseconds of what succeeded since the last call, ascending; `takeOutage` does not reset them. */
  takeLatencies(): readonly number[]
  readonly acknowledged: number
}

export interface Outage {
  readonly longestMs: number
  readonly succeeded: number
  readonly refused: number
  /** Milliseconds of the successful ones, ascending. */
  readonly latencies: readonly number[]
}

export interface RegionLoadOptions {
  readonly bucket: string
  readonly random: Random
  readonly clients: number
  /** A client gives up on an answer after this. */
  readonly timeoutMs?: number
  /** Of the bodies; 1 is the mix of small, middle and large. */
  readonly sizeFactor?: number
}

const KiB = 1024

export function openRegionLoad(options: RegionLoadOptions): RegionLoad {
  const { bucket, random, timeoutMs = 15_000, sizeFactor = 1 } = options
  const ledger = openLedger()
  let gateways: readonly S3Client[] = []
  let stopping = new AbortController()
  let running: Promise<void>[] = []
  let counter = 0
  let thinkMs = 0
  let lastSuccessMs = performance.now()
  let longestMs = 0
  let succeeded = 0
  let refused = 0
  let latencies: number[] = []
  let untaken: number[] = []

  const noteSuccess = (beganMs: number): void => {
    const now = performance.now()
    longestMs = Math.max(longestMs, now - lastSuccessMs)
    lastSuccessMs = now
    succeeded++
    latencies.push(now - beganMs)
    untaken.push(now - beganMs)
  }
  /** Undefined: no answer, or one that leaves open what has happened. */
  const ask = async (request: Parameters<S3Client['send']>[0]): Promise<S3Reply | undefined> => {
    // Half of it to one and a half: clients that think for the same time would go on in step.
    if (thinkMs > 0) await new Promise((resolve) => setTimeout(resolve, thinkMs * (0.5 + random.next())))
    const beganMs = performance.now()
    try {
      const gateway = random.pick(gateways)
      const reply = await gateway.send({ bucket, ...request, signal: AbortSignal.timeout(timeoutMs) })
      if (reply.status < 500) {
        noteSuccess(beganMs)
        return reply
      }
    } catch {
      // A gateway that is gone, or one that does not answer in time.
    }
    refused++
    // Whoever is refused waits a moment, as every S3 client does.
    await new Promise((resolve) => setTimeout(resolve, 20 + random.below(60)))
    return undefined
  }
  const anySize = (): number => {
    const dice = random.next()
    const bytes =
      dice < 0.5 ? random.below(4 * KiB) : dice < 0.9 ? random.below(200 * KiB) : random.below(3 * 1024 * KiB)
    return Math.ceil(bytes * sizeFactor)
  }

  /** Writes a key again and again until an outcome is unknown: then nobody can say any more what it should be, and it is left. */
  async function writeKey(key: string): Promise<void> {
    for (let turn = 0; turn < 6 && !stopping.signal.aborted; turn++) {
      const isDelete = turn > 0 && random.next() < 0.15
      const value: Content | null = isDelete ? null : simpleContent(`${random.seed}/${counter++}`, anySize())
      ledger.begin(key, value)
      const reply = await ask(
        value === null ? { method: 'DELETE', key } : { method: 'PUT', key, body: bytesOf(value) },
      )
      if (reply === undefined) return
      assert.ok(
        reply.status === 200 || reply.status === 204,
        `${key} was answered ${reply.status} ${reply.code}`,
      )
      ledger.acknowledge(key, value)
      // At another gateway, at once: an acknowledged write is seen everywhere.
      const read = await ask({ method: 'GET', key })
      if (read !== undefined) assertIs(key, read, [value])
    }
  }
  async function client(name: string): Promise<void> {
    for (let key = 0; !stopping.signal.aborted; key++) await writeKey(`${name}/key-${key}`)
  }

  /**
   * A connection that was kept from before a kill breaks when it is used: the second one tells. A gateway that cannot answer yet says so, and
   * is asked again: how long that may last is for `takeOutage` to say.
   */
  async function readWhole(gateway: S3Client, key: string): Promise<S3Reply> {
    for (const untilMs = performance.now() + timeoutMs; ; ) {
      const isLate = performance.now() > untilMs
      try {
        const reply = await gateway.send({ method: 'GET', bucket, key })
        if (reply.status !== 503 || isLate) return reply
      } catch (reason) {
        if (isLate) throw new Error(`GET ${key}: ${String(reason)}`, { cause: reason })
      }
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }

  return {
    start() {
      stopping = new AbortController()
      lastSuccessMs = performance.now()
      const first = counter
      running = Array.from({ length: options.clients }, (_, index) => client(`client-${first}-${index}`))
      // Rejections are told by `stop`.
      for (const run of running) run.catch(() => stopping.abort())
    },
    async stop() {
      stopping.abort()
      await Promise.all(running)
    },
    setThinkMs(newThinkMs) {
      thinkMs = newThinkMs
    },
    setGateways(clients) {
      gateways = clients
    },
    async verify(gateway) {
      for (const key of ledger.keys()) {
        assertIs(key, await readWhole(gateway, key), ledger.possible(key))
      }
    },
    takeOutage() {
      const open = running.length > 0 && !stopping.signal.aborted ? performance.now() - lastSuccessMs : 0
      const outage = {
        longestMs: Math.max(longestMs, open),
        succeeded,
        refused,
        latencies: latencies.sort((one, other) => one - other),
      }
      longestMs = 0
      succeeded = 0
      refused = 0
      latencies = []
      return outage
    },
    takeLatencies() {
      const taken = untaken.sort((one, other) => one - other)
      untaken = []
      return taken
    },
    get acknowledged() {
      return ledger.acknowledged
    },
  }
}

function assertIs(key: string, reply: S3Reply, possible: readonly (Content | null)[]): void {
  assert.ok(
    reply.status === 200 || reply.status === 404,
    `GET ${key} was answered ${reply.status} ${reply.code}`,
  )
  const seen = reply.status === 404 ? undefined : String(reply.headers.etag).replaceAll('"', '')
  const promised = possible.map((value) =>
    value === null ? 'absent' : `${value.byteLength} bytes ${value.etag}`,
  )
  const value = possible.find((candidate) => candidate?.etag === seen)
  assert.notEqual(
    value,
    undefined,
    `${key} is ${reply.status} ${seen ?? reply.code}; promised was ${promised.join(' or ')}`,
  )
  if (value != null)
    assert.ok(reply.body.equals(bytesOf(value)), `${key} has the right ETag and the wrong bytes`)
}

/** p in 0 to 1 of ascending numbers; NaN of none. */
export const percentile = (ascending: readonly number[], p: number): number =>
  ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * p))] ?? Number.NaN
