import { isIP } from 'node:net'
import { z } from 'zod'
import { parseDiscoverySource } from '../../cluster/discovery/source.ts'
import { type ErasureScheme, parseScheme, stripeWidth } from '../../contract/erasure.ts'
import { StorageError } from '../../contract/errors.ts'
import { formatListen } from './addresses.ts'
import { nodeName } from './rpc-schema.ts'
import { size } from './value-schemas.ts'

/**
 * The section `cluster`: one file for all nodes of a region, each of which is started with its own name. What a node's entry
 * says (address, ports, data) stands in for the keys of the same meaning elsewhere, unless those are set.
 */

const MiB = 1024 * 1024

/** Where each part of a node listens when its entry does not say otherwise; `nats` is NATS's own. */
export const clusterPorts = {
  s3: 9000,
  admin: 9001,
  console: 9002,
  rpc: 9003,
  control: 9005,
  nats: 4222,
} as const

const port = z.int().min(1).max(65_535)

/** A host name, an IPv4 or an IPv6 address, without a port. */
const host = z
  .string()
  .refine((text) => isIP(text) !== 0 || /^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(text), {
    error: ({ input }) => `'${input}' is not a host name or an IP address; the ports have keys of their own`,
  })

const clusterNode = z.strictObject({
  address: z
    .union([z.literal(''), host])
    .default('')
    .describe(
      'Host name or IP address at which the other nodes and S3 clients reach this node. With `discovery` it may be left out: the ' +
        'node takes the one address of its machine, or PANDO_ADDRESS, and the others find it.',
    ),
  ports: z
    .partialRecord(z.enum(Object.keys(clusterPorts) as (keyof typeof clusterPorts)[]), port)
    .default({})
    .describe(
      'Ports that are not the usual ones (s3 9000, admin 9001, console 9002, rpc 9003, control 9005, nats 4222): ' +
        'for several nodes on one machine.',
    ),
  data: z.string().default('').describe('Data directory of this node. Empty: the key `data`.'),
  zone: z
    .string()
    .max(64)
    .default('')
    .describe(
      'Where it stands or fails with others: copies of a chunk go to different zones as long as there are enough.',
    ),
  rack: z.string().max(64).default('').describe('Within its zone: then to different racks.'),
  weight: z
    .number()
    .min(0)
    .max(1e9)
    .default(1)
    .describe('Its share of the chunks relative to the others, for example its capacity in TB. 0: none.'),
  nats: z
    .union([z.literal('auto'), z.boolean()])
    .default('auto')
    .describe('Whether a NATS server of the region runs here. auto: on the first three nodes of the file.'),
})

export const clusterSection = z
  .strictObject({
    nodes: z
      .record(nodeName, clusterNode)
      .default({})
      .describe(
        'All nodes of the region by name; the same list on each of them. Empty: a region of this node alone. The nodes named ' +
          'at the first start found the region together.',
      ),
    discovery: z
      .array(
        z.string().superRefine((text, context) => {
          try {
            parseDiscoverySource(text)
          } catch (error) {
            context.addIssue({ code: 'custom', message: StorageError.from(error).reason })
          }
        }),
      )
      .max(8)
      .default([])
      .describe(
        'Where nodes are found whose address is not written here, or has changed. dns:NAME for A and AAAA records (port 9005), ' +
          'dns:NAME?type=SRV for SRV records, dns://SERVER/NAME to ask that server; multicast, or multicast://GROUP:PORT, for ' +
          'announcements within one network. Who is at an address is proved by certificate in any case.',
      ),
    keys: z
      .string()
      .min(1)
      .default('keys')
      .describe(
        "Directory with the keys that 'pando cluster init' made, one directory for each node in it. Relative to the config file.",
      ),
    replicas: z
      .int()
      .min(1)
      .max(5)
      .default(3)
      .describe('Copies of each chunk, on as many nodes. Counts at the founding; later: pando cluster set.'),
    acks: z
      .enum(['one', 'quorum', 'all'])
      .default('quorum')
      .describe('How many copies are durable before a write is acknowledged.'),
    classes: z
      .partialRecord(
        z.enum(['STANDARD', 'REDUCED_REDUNDANCY', 'STANDARD_IA', 'ONEZONE_IA', 'INTELLIGENT_TIERING']),
        z.string().refine((text) => parseScheme(text) !== undefined, {
          error: ({ input }) =>
            `'${input}' is no erasure code; write k+m, with 1 to 16 data and 1 to 8 parity fragments, such as 4+2`,
        }),
      )
      .default({})
      .describe(
        'Storage classes whose chunks are kept as k data and m parity fragments at k + m nodes instead of copies, such as ' +
          '{STANDARD_IA: 4+2}: any m of these nodes may be lost. For new objects; what there is stays as it was written.',
      ),
    repairRate: size(64 * 1024)
      .prefault('64MiB')
      .describe(
        'Bytes a second that a node fetches at most to become whole, after a failure or when chunks move; less while clients need the ' +
          'machines.',
      ),
    natsServers: z
      .array(z.string().regex(/^(nats|tls):\/\/[^\s/]+$/, 'nats://host:port or tls://host:port'))
      .max(64)
      .default([])
      .describe(
        'An existing NATS cluster with JetStream to use instead of servers that the nodes run themselves; with `natsCredentials`.',
      ),
    natsCredentials: z
      .string()
      .default('')
      .describe('File with the credentials for `natsServers` (.creds). Relative to the config file.'),
    natsStore: size(64 * MiB)
      .prefault('1GiB')
      .describe('Bytes that the NATS server of a node may keep on its disk.'),
  })
  .prefault({})
  .describe('A region of several nodes.')
  .meta({ 'x-pando-node': true })

export type ClusterConfig = z.output<typeof clusterSection>

/** A node's entry of `cluster.nodes`, with what it leaves out filled in. */
export interface ClusterSeat {
  readonly name: string
  readonly address: string
  readonly ports: Readonly<Record<keyof typeof clusterPorts, number>>
  readonly zone: string
  readonly rack: string
  readonly weight: number
  readonly runsNats: boolean
}

/** Servers that can order the log: one does so at a time, and each of the others can take over. */
const natsNodes = 3

/** In the order of the file. */
export function seatsOf({
  nodes,
  natsServers,
}: Pick<ClusterConfig, 'nodes' | 'natsServers'>): readonly ClusterSeat[] {
  return Object.entries(nodes).map(([name, { address, ports, zone, rack, weight, nats }], index) => ({
    name,
    address,
    ports: { ...clusterPorts, ...ports },
    zone,
    rack,
    weight,
    runsNats: natsServers.length === 0 && (nats === 'auto' ? index < natsNodes : nats),
  }))
}

export const seatAddress = (seat: ClusterSeat, part: keyof typeof clusterPorts): string =>
  formatListen({ host: seat.address, port: seat.ports[part] })

/** How the chunks of a storage class are kept; undefined: as copies. */
export function erasureOf(
  { classes }: Pick<ClusterConfig, 'classes'>,
  storageClass: string,
): ErasureScheme | undefined {
  const found = Object.entries(classes).find(([name]) => name === storageClass)
  return found?.[1] === undefined ? undefined : parseScheme(found[1])
}

/** Of all classes that are coded. */
export const schemesOf = ({ classes }: Pick<ClusterConfig, 'classes'>): readonly ErasureScheme[] =>
  Object.keys(classes).flatMap((name) => erasureOf({ classes }, name) ?? [])

/** Of all classes: how many fragments a chunk may have. */
export const stripeWidths = (cluster: Pick<ClusterConfig, 'classes'>): readonly number[] =>
  schemesOf(cluster).map(stripeWidth)

/** What one key alone cannot tell. */
export function checkCluster(
  config: {
    readonly node: string
    readonly cluster: ClusterConfig
    readonly peers: readonly unknown[]
    readonly store: { readonly backend: string }
  },
  context: z.RefinementCtx,
): void {
  const { node, cluster, peers, store } = config
  const seats = seatsOf(cluster)
  if (seats.length === 0) return
  const refuse = (path: readonly (string | number)[], message: string): void =>
    context.addIssue({ code: 'custom', path: [...path], message })
  if (!seats.some(({ name }) => name === node)) {
    const names = seats.map(({ name }) => name).join(', ')
    refuse(
      ['node'],
      `'${node}' is not one of cluster.nodes (${names}); say which one this is with --node NAME or PANDO_NODE`,
    )
  }
  for (const [name, text] of Object.entries(cluster.classes)) {
    const scheme = parseScheme(text ?? '')
    if (scheme !== undefined && stripeWidth(scheme) > seats.length) {
      refuse(
        ['cluster', 'classes', name],
        `${text} needs ${stripeWidth(scheme)} nodes, and cluster.nodes names ${seats.length}`,
      )
    }
  }
  if (peers.length > 0) refuse(['peers'], 'the nodes of a cluster are named in cluster.nodes, not in peers')
  if (store.backend === 'reference' || store.backend === 'memory') {
    refuse(
      ['store', 'backend'],
      `a node of a cluster keeps its chunks on a disk; '${store.backend}' does not`,
    )
  }
  if (cluster.natsServers.length === 0 && !seats.some(({ runsNats }) => runsNats)) {
    refuse(
      ['cluster', 'nodes'],
      'no node runs a NATS server; set nats: true for one or three of them, or name natsServers',
    )
  }
  const taken = new Map<string, string>()
  for (const { name, address } of seats) {
    if (address !== '' || cluster.discovery.length > 0) continue
    refuse(['cluster', 'nodes', name, 'address'], 'is missing; or say with cluster.discovery how it is found')
  }
  for (const seat of seats) {
    if (seat.address === '') continue
    for (const [part, number] of Object.entries(seat.ports)) {
      // Admin and console are on loopback: two nodes with different addresses may still be on one machine, but need not be.
      const place = formatListen({ host: seat.address, port: number })
      const other = taken.get(place)
      if (other !== undefined) {
        refuse(
          ['cluster', 'nodes', seat.name],
          `${place} is the place of ${other} too (${part}); give it other ports`,
        )
      }
      taken.set(place, `${seat.name}.${part}`)
    }
  }
}

/**
 * Lets the entry of the node that is meant speak where the file, the environment and the command line have not: the document
 * before it is checked, so that what is wrong in it is told as of any other key.
 */
export function placeNode(
  document: Record<string, unknown>,
  /** Where this node is when its entry does not say so; empty or undefined: not known. */
  ownAddress: string | undefined,
): void {
  const entry = mapping(mapping(mapping(document['cluster'])?.['nodes'])?.[String(document['node'])])
  if (entry === undefined) return
  const { data } = entry
  if (document['data'] === undefined && typeof data === 'string' && data !== '') document['data'] = data
  if (entry['address'] === undefined || entry['address'] === '') entry['address'] = ownAddress ?? ''
  const { address } = entry
  if (typeof address !== 'string' || address === '') return
  const ports = mapping(entry['ports']) ?? {}
  const places = { s3: address, admin: '127.0.0.1', console: '127.0.0.1', rpc: address }
  for (const [part, at] of Object.entries(places)) {
    const section = document[part] ?? {}
    if (mapping(section) === undefined) continue
    const number = Number(ports[part] ?? clusterPorts[part as keyof typeof places])
    document[part] = { listen: formatListen({ host: at, port: number }), ...mapping(section) }
  }
}

/** Of a document as it was read: where each node that it names keeps its data. Entries that say nothing, and are no entries, count, too. */
export function dataOfNodes(
  document: Record<string, unknown>,
): readonly (readonly [node: string, data: string])[] {
  const { data: common } = document
  return Object.entries(mapping(mapping(document['cluster'])?.['nodes']) ?? {}).map(([node, entry]) => {
    const data = common ?? (mapping(entry)?.['data'] || './data')
    return [node, String(data)]
  })
}

function mapping(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined
}
