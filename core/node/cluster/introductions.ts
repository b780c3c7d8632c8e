import type { ClusterMap } from '../../contract/cluster-map.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { GrpcRegionPeers } from '../../control/region-peers/region-peers.ts'
import { parseListen } from '../config/addresses.ts'
import { type ClusterSeat, seatAddress } from '../config/cluster-schema.ts'

const topic = 'introduce'
const deadlineMs = 2_000
/** As an address is at most: a host name of 255, a colon, a port. */
const maxAddressBytes = 261

/**
 * Where the other nodes are: as the cluster map says, before there is one as the configuration says, and of a node that neither knows,
 * as it says itself when it connects. So a new node needs the file of the region, and the others need not know its name before.
 */
export class Introductions {
  readonly #peers: GrpcRegionPeers
  readonly #seats: readonly ClusterSeat[]
  readonly #introduced = new Map<string, string>()
  readonly #stop: (() => void)[]
  #map: ClusterMap | undefined

  constructor(parts: {
    readonly peers: GrpcRegionPeers
    readonly own: ClusterSeat
    readonly seats: readonly ClusterSeat[]
    readonly log: Logger
  }) {
    const { peers, own, seats, log } = parts
    this.#peers = peers
    this.#seats = seats
    const ownAddress = Buffer.from(seatAddress(own, 'control'))
    const introduce = (name: string): void => {
      peers.request(name, topic, ownAddress, { deadlineMs }).catch((reason: unknown) => {
        log.debug({ peer: name, err: StorageError.from(reason) }, 'a node did not take where this one is')
      })
    }
    this.#stop = [
      peers.serve(topic, {
        request: async (from, message) => {
          this.#take(from, message)
          return new Uint8Array(0)
        },
      }),
      peers.onChange((name, isConnected) => {
        if (isConnected) introduce(name)
      }),
    ]
    this.#tell()
    for (const name of peers.connected()) introduce(name)
  }

  /** From now on the map says where its nodes are. */
  setMap(map: ClusterMap): void {
    this.#map = map
    this.#tell()
  }

  stop(): void {
    for (const stop of this.#stop) stop()
  }

  /** `from` is who its certificate says it is: it can say where it is itself, and nobody else. */
  #take(from: string, message: Uint8Array): void {
    const address = Buffer.from(message.subarray(0, maxAddressBytes + 1)).toString('utf8')
    if (address.length > maxAddressBytes || (parseListen(address)?.port ?? 0) === 0) {
      throw new StorageError('INVALID_ARGUMENT', 'an introduction is an address, host:port')
    }
    if (this.#introduced.get(from) === address) return
    this.#introduced.set(from, address)
    this.#tell()
  }

  #tell(): void {
    const addresses = new Map(this.#seats.map((seat) => [seat.name, seatAddress(seat, 'control')]))
    // What a node said last is newer than the map, which it will correct.
    for (const { name, control } of this.#map?.nodes ?? []) addresses.set(name, control)
    for (const [name, address] of this.#introduced) addresses.set(name, address)
    this.#peers.setPeers([...addresses].map(([name, address]) => ({ name, address })))
  }
}
