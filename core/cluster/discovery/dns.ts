import { lookup, Resolver } from 'node:dns/promises'
import { StorageError } from '../../contract/errors.ts'

export interface DnsQuestion {
  readonly name: string
  readonly type: 'address' | 'srv'
  readonly server?: string
}

/** A name that gives more is not one of a region, or somebody plays with it. */
const mostAddresses = 64
/** Of each question; asked twice. */
const questionMs = 1_000
const tries = 2

/**
 * The addresses that a name stands for now, `host:port`: of A and AAAA records with `port`, of SRV records each with its own. Nothing is
 * kept: the next call asks again. UNAVAILABLE with the resolver's words when there is no answer.
 */
export async function resolveDns(
  { name, type, server }: DnsQuestion,
  port: number,
  signal: AbortSignal,
): Promise<readonly string[]> {
  signal.throwIfAborted()
  const resolver = new Resolver({ timeout: questionMs, tries })
  if (server !== undefined) resolver.setServers([server])
  const stop = (): void => resolver.cancel()
  signal.addEventListener('abort', stop, { once: true })
  // Names of machines also come from where the machine itself looks: its hosts file, its search domains.
  const addressesOf = server === undefined ? lookUpHost : (host: string) => resolveHost(resolver, host)
  try {
    if (type === 'address') return format(await addressesOf(name), port)
    const records = (await resolver.resolveSrv(name))
      .toSorted((one, other) => one.priority - other.priority || other.weight - one.weight)
      .slice(0, mostAddresses)
    const found = await Promise.allSettled(
      records.map(async (record) => format(await addressesOf(record.name), record.port)),
    )
    const addresses = found.flatMap((outcome) => (outcome.status === 'fulfilled' ? outcome.value : []))
    const failed = found.find(({ status }) => status === 'rejected')
    if (addresses.length === 0 && failed?.status === 'rejected') throw failed.reason
    return [...new Set(addresses)].slice(0, mostAddresses)
  } catch (reason) {
    signal.throwIfAborted()
    const why = reason instanceof Error ? reason.message : String(reason)
    throw new StorageError('UNAVAILABLE', `${name}: ${why}`, { cause: reason })
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

async function lookUpHost(host: string): Promise<readonly string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address)
}

/** A name may have one kind only; an error is one when neither is there. */
async function resolveHost(resolver: Resolver, host: string): Promise<readonly string[]> {
  const both = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)])
  const found = both.flatMap((outcome) => (outcome.status === 'fulfilled' ? outcome.value : []))
  const [first] = both
  if (found.length === 0 && first.status === 'rejected') throw first.reason
  return found
}

const format = (hosts: readonly string[], port: number): readonly string[] =>
  [...new Set(hosts)]
    .slice(0, mostAddresses)
    .map((host) => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`))
