import { resolveDns } from '../../cluster/discovery/dns.ts'
import { type Multicast, openMulticast } from '../../cluster/discovery/multicast.ts'
import { type DiscoverySource, parseDiscoverySource } from '../../cluster/discovery/source.ts'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { PeerTls } from '../../control/region-peers/peer-link.ts'
import { whoIs } from '../../control/region-peers/who-is.ts'
import { type ClusterSeat, clusterPorts, seatAddress } from '../config/cluster-schema.ts'

export interface DiscoveryParts {
  /** `cluster.discovery`. */
  readonly sources: readonly string[]
  readonly own: ClusterSeat
  readonly regionId: number
  readonly keys: { readonly tls: PeerTls; readonly regionKey: Uint8Array }
  /** Those of the region that there is no connection to, as far as their names are known. */
  readonly missing: () => readonly string[]
  /** A node has proved that it is there. Control address, `host:port`. */
  readonly onFound: (name: string, address: string) => void
  readonly environment: Environment
  readonly log: Logger
}

export interface Discovery {
  /** What keeps sources from telling anything, in words. */
  problems(): readonly string[]
  close(): Promise<void>
}

const shortestPauseMs = 1_000
const longestPauseMs = 10_000
/** While everybody is connected; then it is only looked whether that is still so. */
const idleMs = 1_000
/** Of one look at all sources. */
const lookMs = 4_000
const probeMs = 2_000
const mostCandidates = 256
const probesAtOnce = 8

type DnsSource = Extract<DiscoverySource, { kind: 'dns' }>

/**
 * Finds nodes whose addresses nobody has written down, and those that have moved. The sources are asked while somebody is missing, every
 * time anew, so that what has changed in them is followed; who is at an address is for its certificate to say.
 */
export function startDiscovery(parts: DiscoveryParts): Discovery {
  const { own, regionId, keys, environment, log } = parts
  const { clock } = environment
  const ownAddress = seatAddress(own, 'control')
  const closing = new AbortController()
  let waking: AbortController | undefined
  const sources = parts.sources.map(parseDiscoverySource)
  const dns = sources.filter((source): source is DnsSource => source.kind === 'dns')
  const multicasts = sources.flatMap((source): readonly Multicast[] =>
    source.kind === 'dns'
      ? []
      : [
          openMulticast({
            ...source,
            own: { name: own.name, address: ownAddress },
            interfaceAddress: own.address,
            regionKey: keys.regionKey,
            onHeard: () => waking?.abort(),
            environment,
            log,
          }),
        ],
  )
  const problems = new Map<string, string>()

  const note = (source: string, problem: string): void => {
    if (problem !== '' && problems.get(source) !== problem)
      log.warn({ source, problem }, 'nodes are not found by this source now')
    if (problem === '') problems.delete(source)
    else problems.set(source, problem)
  }

  /** Addresses at which one of the missing may be. */
  const candidates = async (signal: AbortSignal): Promise<ReadonlySet<string>> => {
    const missing = new Set(parts.missing())
    const found = multicasts
      .flatMap((multicast) => multicast.heard())
      .filter(({ name }) => missing.has(name))
      .map(({ address }) => address)
    const asked = await Promise.all(
      dns.map(async (source) => {
        try {
          // getaddrinfo cannot be told to stop: what it says too late is not waited for.
          const addresses = await within(resolveDns(source, clusterPorts.control, signal), signal)
          note(source.name, addresses.length === 0 ? `${source.name} stands for no address` : '')
          return addresses
        } catch (reason) {
          note(source.name, StorageError.from(reason, 'UNAVAILABLE').reason)
          return []
        }
      }),
    )
    return new Set(
      [...found, ...asked.flat()].filter((address) => address !== ownAddress).slice(0, mostCandidates),
    )
  }

  const probe = async (address: string, signal: AbortSignal): Promise<void> => {
    try {
      const name = await whoIs(address, { regionId, tls: keys.tls, timeoutMs: probeMs, signal })
      if (name !== own.name && !closing.signal.aborted) parts.onFound(name, address)
    } catch (reason) {
      log.debug({ address, err: StorageError.from(reason) }, 'no node of the region was found there')
    }
  }

  /** When each address was asked last, as a running number. */
  const asked = new Map<string, number>()
  let questions = 0

  const look = async (): Promise<void> => {
    const late = AbortSignal.any([closing.signal, timeLimit(environment, lookMs, closing.signal)])
    const found = await candidates(late)
    for (const address of asked.keys()) if (!found.has(address)) asked.delete(address)
    // One look has no time for many that say nothing: the next one begins with those that were not asked.
    const open = [...found].toSorted((one, other) => (asked.get(one) ?? 0) - (asked.get(other) ?? 0))
    const worker = async (): Promise<void> => {
      for (let address = open.shift(); address !== undefined && !late.aborted; address = open.shift()) {
        asked.set(address, ++questions)
        await probe(address, late)
      }
    }
    await Promise.all(Array.from({ length: probesAtOnce }, worker))
  }

  const run = async (): Promise<void> => {
    let pauseMs = shortestPauseMs
    while (!closing.signal.aborted) {
      const isMissing = parts.missing().length > 0
      if (isMissing)
        await look().catch((reason: unknown) =>
          log.warn({ err: StorageError.from(reason) }, 'discovery failed'),
        )
      const waitMs = isMissing ? pauseMs : idleMs
      pauseMs = isMissing ? Math.min(pauseMs * 1.5, longestPauseMs) : shortestPauseMs
      const wake = new AbortController()
      waking = wake
      await clock.sleep(waitMs, AbortSignal.any([closing.signal, wake.signal])).catch(() => undefined)
    }
  }
  const running = run()

  return {
    problems: () => [
      ...problems.values(),
      ...multicasts.map(({ problem }) => problem).filter((problem) => problem !== ''),
    ],
    async close() {
      closing.abort(new StorageError('CLOSED', 'discovery is closed'))
      await Promise.all(multicasts.map((multicast) => multicast.close()))
      await running
    },
  }
}

function timeLimit({ clock }: Environment, ms: number, signal: AbortSignal): AbortSignal {
  const late = new AbortController()
  clock.sleep(ms, signal).then(
    () => late.abort(new StorageError('DEADLINE_EXCEEDED', `no answer within ${ms} ms`)),
    () => undefined,
  )
  return late.signal
}

function within<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) return Promise.reject(signal.reason)
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
  })
}
