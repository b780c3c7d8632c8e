import type { EndpointPool, PooledEndpoint } from './endpoints.ts'
import type { AnswerHeaders } from './http-answer.ts'

interface Primary {
  readonly epoch: number
  readonly region: number
}

/** More buckets than this are forgotten again, the longest known first. */
const mostBuckets = 4096

/**
 * Which region writes which bucket, as gateways tell with every answer about a bucket of a failover group. News of an older epoch than
 * what is known counts for nothing: a client that has followed a change of the primary is never sent back.
 */
export class Primaries {
  readonly #pool: EndpointPool
  readonly #known = new Map<string, Primary>()

  constructor(pool: EndpointPool) {
    this.#pool = pool
  }

  /** Of an answer, whatever it says otherwise. */
  learn(bucket: string | undefined, endpoint: PooledEndpoint, headers: AnswerHeaders): void {
    const here = numberOf(headers.get('x-pando-region'))
    if (here === undefined) return
    endpoint.regionId = here
    const epoch = numberOf(headers.get('x-pando-epoch'))
    const region = numberOf(headers.get('x-pando-primary'))
    if (bucket === undefined || epoch === undefined || region === undefined) return
    this.adopt(bucket, { epoch, region })
    const location = headers.get('location')
    if (region !== here && location !== null) this.#pool.add(location, endpoint, region)
  }

  /** False: older than what is known, or the same. */
  adopt(bucket: string, primary: Primary): boolean {
    const known = this.#known.get(bucket)
    if (known !== undefined && known.epoch >= primary.epoch) return false
    this.#known.delete(bucket)
    this.#known.set(bucket, primary)
    const [oldest] = this.#known.keys()
    if (this.#known.size > mostBuckets && oldest !== undefined) this.#known.delete(oldest)
    // It is well again, or nobody would have made it the primary.
    this.#pool.wake(primary.region)
    return true
  }

  of(bucket: string | undefined): Primary | undefined {
    return bucket === undefined ? undefined : this.#known.get(bucket)
  }
}

function numberOf(text: string | null): number | undefined {
  if (text === null || !/^\d{1,15}$/.test(text)) return undefined
  return Number(text)
}
