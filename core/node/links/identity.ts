import { createHash } from 'node:crypto'
import type { NodeIdentity } from '../../contract/transport.ts'

const idBytes = 16

export interface RegionName {
  readonly region: string
  readonly regionId: number
}

/**
 * What a node is called in the handshake. Made of names that the configuration has anyway, so that nobody copies identifiers
 * from node to node: a peer is configured by its name, and the node that answers must prove that it bears it.
 */
export function nodeIdOf({ region, regionId }: RegionName, node: string): Uint8Array {
  return hash(`pando node\0${regionId}\0${region}\0${node}`)
}

/** Two regions that share a key by mistake have different ids all the same. */
export function regionIdOf({ region, regionId }: RegionName): Uint8Array {
  return hash(`pando region\0${regionId}\0${region}`)
}

/** `mapEpoch`: asked for each session. */
export function identityOf(
  region: RegionName,
  node: string,
  regionKey: Uint8Array,
  mapEpoch: () => number = () => 0,
): NodeIdentity {
  return {
    nodeId: nodeIdOf(region, node),
    regionId: regionIdOf(region),
    regionKey,
    get mapEpoch() {
      return mapEpoch()
    },
  }
}

export const hex = (id: Uint8Array): string => Buffer.from(id).toString('hex')

const hash = (text: string): Uint8Array =>
  Uint8Array.from(createHash('sha256').update(text).digest().subarray(0, idBytes))
