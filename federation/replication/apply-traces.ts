import { StorageError } from '../../core/contract/errors.ts'
import type { OutboxEntry, ReplicatedVersion } from '../../core/contract/replication.ts'
import type { Span, Tracer } from '../../core/contract/trace.ts'
import type { ReadyEntry } from './batch-fetch.ts'

export interface ApplyTracesParts {
  readonly tracer: Tracer
  readonly traces: readonly (readonly [index: number, traceParent: string])[]
  readonly entries: readonly Uint8Array[]
  /** What has to be fetched for each of them. */
  readonly wanted: readonly (ReplicatedVersion | undefined)[]
  readonly bucket: string
  readonly source: number
  decode(bytes: Uint8Array): OutboxEntry | undefined
}

/**
 * The entries of one answer that belong to traces of requests at their source: a span for each, from when it has come until it is in this
 * region's catalog, below the span of the request that wrote it, which may be over for long.
 */
export class ApplyTraces {
  readonly #spans = new Map<Uint8Array, Span>()
  readonly #fetches = new Map<ReplicatedVersion, Span>()

  constructor({ tracer, traces, entries, wanted, bucket, source, decode }: ApplyTracesParts) {
    for (const [index, traceParent] of traces) {
      const bytes = entries[index]
      // Twice the same would leave a span that never ends.
      if (bytes === undefined || this.#spans.has(bytes)) continue
      const entry = decode(bytes)
      const span = tracer.begin('replication.apply', 'consumer', traceParent, {
        ...{ 'aws.s3.bucket': bucket, 'pando.peer_region': source },
        ...(entry === undefined ? {} : { 'pando.lsn': entry.lsn, 'pando.change': entry.change.type }),
      })
      if (span === undefined) continue
      if (entry !== undefined && 'key' in entry.change) span.set('aws.s3.key', entry.change.key)
      this.#spans.set(bytes, span)
      const version = wanted[index]
      if (version !== undefined) this.#fetches.set(version, span)
    }
  }

  /** Does the work of bringing a version here. `traceParent`: what the source is told. */
  async fetch<T>(
    version: ReplicatedVersion,
    work: (traceParent: string | undefined) => Promise<T>,
  ): Promise<T> {
    const whole = version.bodies.length === 0 ? undefined : this.#fetches.get(version)
    if (whole === undefined) return work(undefined)
    const span = whole.child('replication.fetch', 'client', { 'pando.bytes': version.byteLength })
    try {
      const result = await work(span.traceParent)
      span.end()
      return result
    } catch (error) {
      span.end(error)
      throw error
    }
  }

  /** These are in the catalog: applied, or kept in the retry table. */
  applied(run: readonly ReadyEntry[]): void {
    for (const { pulled } of run) {
      const { bytes } = pulled
      const failure = 'failure' in pulled ? pulled.failure : undefined
      this.#end(bytes, failure === undefined ? undefined : new StorageError('UNAVAILABLE', failure))
    }
  }

  /** The others do not come so far now. */
  giveUp(): void {
    for (const bytes of this.#spans.keys()) {
      this.#end(bytes, new StorageError('CANCELLED', 'the entries were given up'))
    }
  }

  #end(bytes: Uint8Array, error: StorageError | undefined): void {
    this.#spans.get(bytes)?.end(error)
    this.#spans.delete(bytes)
  }
}
