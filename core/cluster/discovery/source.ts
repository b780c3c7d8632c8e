import { isIPv4 } from 'node:net'
import { StorageError } from '../../contract/errors.ts'

/**
 * Where nodes of the region may be found. What a source gives is an address of somebody who may be one of them: whoever answers there has
 * to prove by certificate who it is.
 */
export type DiscoverySource =
  /** `dns:NAME`, `dns:NAME?type=SRV`, `dns://SERVER[:PORT]/NAME` (RFC 4501). */
  | {
      readonly kind: 'dns'
      readonly name: string
      readonly type: 'address' | 'srv'
      /** `host:port` of the server to ask instead of the machine's; undefined: what the machine asks. */
      readonly server?: string
    }
  /** `multicast`, `multicast://GROUP[:PORT]`. */
  | { readonly kind: 'multicast'; readonly group: string; readonly port: number }

/** Administratively scoped (RFC 2365): no router hands it on by itself. */
const usualGroup = '239.255.80.68'
const usualPort = 9006
const dnsName = /^(?=.{1,253}\.?$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?$/

/** INVALID_ARGUMENT says what is wrong with it. */
export function parseDiscoverySource(text: string): DiscoverySource {
  if (text === 'multicast') return { kind: 'multicast', group: usualGroup, port: usualPort }
  const multicast = /^multicast:\/\/([0-9.]+)(?::(\d{1,5}))?$/.exec(text)
  if (multicast !== null) {
    const [, group = '', port = `${usualPort}`] = multicast
    const first = Number(group.slice(0, group.indexOf('.')))
    if (!isIPv4(group) || first < 224 || first > 239) {
      throw notASource(text, `${group} is not an IPv4 multicast group (224.0.0.0 to 239.255.255.255)`)
    }
    return { kind: 'multicast', group, port: checkPort(text, port) }
  }
  const dns = /^dns:(?:\/\/([^/?\s]+)\/)?([^/?\s]+)(?:\?type=([A-Za-z]+))?$/.exec(text)
  if (dns === null) throw notASource(text, 'write dns:NAME, dns:NAME?type=SRV or multicast')
  const [, server, name = '', type = 'A'] = dns
  if (!dnsName.test(name)) throw notASource(text, `'${name}' is not a name`)
  const wanted = type.toUpperCase()
  if (!['A', 'AAAA', 'SRV'].includes(wanted)) throw notASource(text, 'type is A, AAAA or SRV')
  return {
    kind: 'dns',
    name,
    type: wanted === 'SRV' ? 'srv' : 'address',
    ...(server === undefined ? {} : { server: checkServer(text, server) }),
  }
}

/** An address as c-ares takes it: `1.2.3.4:53` or `[::1]:53`. */
function checkServer(text: string, server: string): string {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(\d{1,5}))?$/.exec(server)
  const host = match?.[1] ?? match?.[2]
  if (host === undefined) throw notASource(text, 'the server is an IP address, [in brackets] if it is IPv6')
  const port = checkPort(text, match?.[3] ?? '53')
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function checkPort(text: string, digits: string): number {
  const port = Number(digits)
  if (port < 1 || port > 65_535) throw notASource(text, `${digits} is not a port`)
  return port
}

const notASource = (text: string, why: string): StorageError =>
  new StorageError('INVALID_ARGUMENT', `'${text}' does not say where nodes are found: ${why}`)
