import type { ClientEnvironment } from './environment.ts'
import { invalidArgument } from './errors.ts'

/** A gateway that the client may ask. */
export interface Endpoint {
  /** `https://host:port`, without a path. */
  readonly url: string
  /**
   * Gateways of one group see the same data at the same time: the nodes of one region. Requests are spread over them. Other
   * groups are asked, in the order in which they are given, only when no gateway of an earlier one answers.
   */
  readonly group?: string
  /** Name of the region in signatures; default the client's. A server that expects another one says so and is believed. */
  readonly region?: string
}

/** Which gateways there are, as of an epoch that only grows. */
export interface Topology {
  readonly epoch: number
  readonly endpoints: readonly (string | Endpoint)[]
}

export interface PooledEndpoint {
  readonly origin: string
  readonly host: string
  readonly group: string
  region: string
  /** Of Pando; undefined: it has not said it yet. */
  regionId?: number
  failures: number
  /** Until then it is asked only when nobody else is left. */
  restsUntilMs: number
}

const firstRestMs = 250
const longestRestMs = 15_000
const maxEndpoints = 64

/** Which gateway is asked next: spread within a group, away from those that fail, and back when they have rested. */
export class EndpointPool {
  readonly #environment: ClientEnvironment
  readonly #defaultRegion: string
  #endpoints: readonly PooledEndpoint[]
  #epoch = -1
  #next = 0
  /** The group in use. After a hand-over the client stays where it is until that group fails too: it does not flap. */
  #group: string

  constructor(
    environment: ClientEnvironment,
    endpoints: readonly (string | Endpoint)[],
    defaultRegion: string,
  ) {
    this.#environment = environment
    this.#defaultRegion = defaultRegion
    this.#endpoints = parseEndpoints(endpoints, defaultRegion)
    this.#group = this.#endpoints[0]?.group ?? ''
  }

  /** False, and nothing changes, when it is older than what is known: a failed-over client never goes back. */
  adopt(topology: Topology): boolean {
    if (!Number.isSafeInteger(topology.epoch) || topology.epoch < 0)
      throw invalidArgument('the epoch of a topology is a whole number')
    if (topology.epoch <= this.#epoch) return false
    const known = new Map(this.#endpoints.map((endpoint) => [endpoint.origin, endpoint]))
    const parsed = parseEndpoints(topology.endpoints, this.#defaultRegion)
    for (const endpoint of parsed) {
      const before = known.get(endpoint.origin)
      endpoint.failures = before?.failures ?? 0
      endpoint.restsUntilMs = before?.restsUntilMs ?? 0
      if (before?.regionId !== undefined) endpoint.regionId = before.regionId
    }
    this.#endpoints = parsed
    this.#epoch = topology.epoch
    this.#group = parsed[0]?.group ?? ''
    return true
  }

  get epoch(): number {
    return this.#epoch
  }

  get size(): number {
    return this.#endpoints.length
  }

  /** The one to ask, if possible none of `avoid`, and best one of the region that leads. */
  pick(avoid: ReadonlySet<PooledEndpoint>, leader?: number): PooledEndpoint {
    const nowMs = this.#environment.monotonic()
    const rested = this.#endpoints.filter((endpoint) => endpoint.restsUntilMs <= nowMs)
    const fresh = rested.filter((endpoint) => !avoid.has(endpoint))
    const chosen =
      (leader === undefined ? undefined : this.#turn(fresh.filter(({ regionId }) => regionId === leader))) ??
      this.#turn(fresh.filter(({ group }) => group === this.#group)) ??
      this.#firstGroup(fresh) ??
      this.#turn(rested.filter(({ group }) => group === this.#group)) ??
      this.#firstGroup(rested) ??
      this.#soonest(avoid)
    // One that comes back is tried by one request: the others wait for what becomes of it.
    if (chosen.failures > 0) chosen.restsUntilMs = nowMs + this.#restMs(chosen.failures)
    return chosen
  }

  /** A gateway of another region, as a gateway has told: only where that is no step down from https. */
  add(url: string, teller: PooledEndpoint, regionId: number): void {
    if (this.#endpoints.length >= maxEndpoints || !URL.canParse(url)) return
    const { origin, protocol } = new URL(url)
    if (protocol !== 'https:' && (protocol !== 'http:' || teller.origin.startsWith('https:'))) return
    const known = this.#endpoints.find((endpoint) => endpoint.origin === origin)
    if (known !== undefined) {
      known.regionId = regionId
      return
    }
    const [made] = parseEndpoints([{ url: origin, group: `region ${regionId}` }], this.#defaultRegion)
    if (made !== undefined) this.#endpoints = [...this.#endpoints, Object.assign(made, { regionId })]
  }

  /** Whether one of them is of the region, or may be. */
  mayReach(regionId: number): boolean {
    return this.#endpoints.some((endpoint) => (endpoint.regionId ?? regionId) === regionId)
  }

  /** The gateways of a region are asked again at once. */
  wake(regionId: number): void {
    for (const endpoint of this.#endpoints) {
      if (endpoint.regionId !== regionId) continue
      endpoint.failures = 0
      endpoint.restsUntilMs = 0
    }
  }

  /** Another healthy gateway of the same group, for a second request beside one that is slow. */
  beside(endpoint: PooledEndpoint): PooledEndpoint | undefined {
    return this.#turn(
      this.#endpoints.filter(
        (other) => other !== endpoint && other.group === endpoint.group && other.failures === 0,
      ),
    )
  }

  succeeded(endpoint: PooledEndpoint): void {
    endpoint.failures = 0
    endpoint.restsUntilMs = 0
    this.#group = endpoint.group
  }

  failed(endpoint: PooledEndpoint): void {
    endpoint.failures += 1
    endpoint.restsUntilMs = this.#environment.monotonic() + this.#restMs(endpoint.failures)
  }

  #restMs(failures: number): number {
    const restMs = Math.min(longestRestMs, firstRestMs * 2 ** Math.min(failures - 1, 10))
    return restMs * (0.5 + this.#environment.random() / 2)
  }

  #turn(candidates: readonly PooledEndpoint[]): PooledEndpoint | undefined {
    if (candidates.length === 0) return undefined
    this.#next = (this.#next + 1) % 0x4000_0000
    return candidates[this.#next % candidates.length]
  }

  #firstGroup(candidates: readonly PooledEndpoint[]): PooledEndpoint | undefined {
    const group = candidates[0]?.group
    return this.#turn(candidates.filter((endpoint) => endpoint.group === group))
  }

  /** Nobody is well: the one whose rest ends first, rather one that has not just failed this request. */
  #soonest(avoid: ReadonlySet<PooledEndpoint>): PooledEndpoint {
    const untried = this.#endpoints.filter((endpoint) => !avoid.has(endpoint))
    const [first, ...rest] = untried.length > 0 ? untried : this.#endpoints
    if (first === undefined) throw invalidArgument('there is no endpoint')
    return rest.reduce((best, other) => (other.restsUntilMs < best.restsUntilMs ? other : best), first)
  }
}

function parseEndpoints(
  given: readonly (string | Endpoint)[],
  defaultRegion: string,
): readonly PooledEndpoint[] {
  if (given.length === 0 || given.length > maxEndpoints)
    throw invalidArgument(`endpoints: give 1 to ${maxEndpoints}`)
  return given.map((item) => {
    const {
      url,
      group = '',
      region = defaultRegion,
    }: Endpoint = typeof item === 'string' ? { url: item } : item
    let parsed: URL
    try {
      parsed = new URL(url)
    } catch {
      throw invalidArgument(`an endpoint is no URL: ${url}`)
    }
    if (!/^https?:$/.test(parsed.protocol)) throw invalidArgument(`an endpoint is http or https: ${url}`)
    if (parsed.username !== '' || parsed.password !== '')
      throw invalidArgument('credentials do not belong into the URL of an endpoint')
    if (parsed.pathname !== '/' || parsed.search !== '' || parsed.hash !== '')
      throw invalidArgument(`an endpoint has neither path nor query: ${url}`)
    return { origin: parsed.origin, host: parsed.host, group, region, failures: 0, restsUntilMs: 0 }
  })
}
