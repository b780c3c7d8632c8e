import { encodeEntry, entryRandomBytes, sessionBytes } from '../../core/catalog/entry.ts'
import { progressMessage, topic } from '../../core/catalog/replicated/peer-messages.ts'
import { defaultPace } from '../../core/catalog/replicated/replica-options.ts'
import { encodeRecord } from '../../core/catalog/replicated/stream-record.ts'
import { changeMap } from '../../core/cluster/placement/change-map.ts'
import type { ClusterMap } from '../../core/contract/cluster-map.ts'
import { channelOptions } from '../../core/control/region-peers/service.ts'
import { encodeParcel, makeLetter } from '../../core/control/region-peers/wire.ts'
import { defaultLimits } from '../../core/protocol/link-paths.ts'
import { clusterNode } from './cluster-maps.ts'

/** What a node of a region sends while nobody asks it for anything, and what a change of the cluster map costs. */
export interface RegionTraffic {
  readonly nodes: number
  readonly voter: Sent
  readonly other: Sent
  /** Of a map on which one node has just been added, with the tables of before and after: as it is published. */
  readonly mapBytes: number
}

export interface Sent {
  readonly messagesPerSecond: number
  /** Of TLS records and sealed frames; without TCP and IP. */
  readonly bytesPerSecond: number
  /** Connections that it keeps, both ways. */
  readonly connections: number
}

/** A record of TLS 1.3: header, type, tag. */
const tlsBytes = 22
/** RFC 9113: the header of a frame; a PING has 8 bytes more. gRPC puts 5 before a message. */
const http2Bytes = 9
const pingBytes = http2Bytes + 8 + tlsBytes
const grpcBytes = 5
/** native/RPC.md: a header, sealed. */
const probeBytes = 80
const secondMs = 1000

const chain = new Uint8Array(32).fill(7)
const incarnation = 'ab'.repeat(16)
const log = 'cd'.repeat(16)
const nameOf = (index: number): string => `n${String(index).padStart(5, '0')}`

function progressBytes(): number {
  const ballot = { round: 3, by: nameOf(0) }
  const body = progressMessage.encode({
    incarnation,
    log,
    ballot,
    promised: ballot,
    position: 1e9,
    chain,
    sequence: 1e8,
    confirmed: 1e9,
    followsOrder: true,
    isWaiting: false,
  })
  return encodeParcel([makeLetter({ topic, body })]).length + grpcBytes + http2Bytes + tlsBytes
}

function sent(nodes: number, listeners: number): Sent {
  const others = nodes - 1
  const progress = (listeners * secondMs) / defaultPace.progressMs
  // Each node calls each other one: of both connections of a pair both ends ask whether the other is there, and answer.
  const pings = (2 * others * 2 * secondMs) / channelOptions['grpc.keepalive_time_ms']
  // One link to each, over TCP; the other one's probes are answered.
  const probes = (2 * others * secondMs) / defaultLimits.tickMs
  return {
    messagesPerSecond: progress + pings + probes,
    bytesPerSecond: progress * progressBytes() + pings * pingBytes + probes * probeBytes,
    connections: 4 * others,
  }
}

function mapOf(nodes: number): ClusterMap {
  return {
    epoch: 1,
    replicas: 3,
    nodes: Array.from({ length: nodes }, (_, index) =>
      clusterNode(nameOf(index), {
        zone: `zone-${index % 10}`,
        rack: `rack-${index % 250}`,
        incarnation,
        slot: index,
        voter: index < 5,
        control: '10.100.100.100:9005',
        transports: { tcp: '10.100.100.100:9003' },
      }),
    ),
  }
}

/** A region in which one more node has just begun to hold chunks. */
export function grownMap(nodes: number): ClusterMap {
  const before = mapOf(nodes)
  const first = changeMap({ ...before, nodes: before.nodes.slice(1) }, {})
  const { moving: _, ...settled } = first
  return changeMap(settled, { nodes: before.nodes })
}

export function regionTraffic(nodes: number): RegionTraffic {
  const voters = Math.min(nodes, nodes >= 5 ? 5 : 3)
  const entry = encodeEntry({
    session: new Uint8Array(sessionBytes),
    sequence: 1,
    nowMs: 1_700_000_000_000,
    regionId: 1,
    random: new Uint8Array(entryRandomBytes),
    command: { type: 'set-cluster-map', map: grownMap(nodes) },
  })
  const record = encodeRecord({
    log,
    ballot: { round: 3, by: nameOf(0) },
    position: 1e9,
    chain,
    entries: [entry],
  })
  return {
    nodes,
    // A voter tells everybody how far it is, the others tell the voters.
    voter: sent(nodes, nodes - 1),
    other: sent(nodes, voters),
    mapBytes: record.length,
  }
}

/** One line for each size. */
export function describeTraffic({ nodes, voter, other, mapBytes }: RegionTraffic): string {
  const of = ({ messagesPerSecond, bytesPerSecond, connections }: Sent): string =>
    `${Math.round(messagesPerSecond)} messages/s, ${(bytesPerSecond / 1024).toFixed(1)} KiB/s, ${connections} connections`
  const others = nodes > 5 ? `; any other ${of(other)}` : ''
  return `${nodes} nodes: a voter sends ${of(voter)}${others}; a change of the map ${(mapBytes / 1024).toFixed(0)} KiB`
}
