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
 * as it says itself when it connects; of one that is not there, as discovery has found it. So a new node needs the file of the region, and the others need not know its name before.
 */
export class Introductions {
  readonly #peers: GrpcRegionPeers
  readonly #seats: readonly ClusterSeat[]
  readonly #own: string
  readonly #introduced = new Map<string, string>()
  readonly #found = new Map<string, string>()
  readonly #onAddress: (name: string, address: string) => void
  readonly #stop: (() => void)[]
  #map: ClusterMap | undefined

  constructor(parts: {
    readonly peers: GrpcRegionPeers
    readonly own: ClusterSeat
    readonly seats: readonly ClusterSeat[]
    /** Where a node is now, as far as this one knows; called again when that changes. */
    readonly onAddress?: (name: string, address: string) => void
    readonly log: Logger
  }) {
    const { peers, own, seats, log } = parts
    this.#onAddress = parts.onAddress ?? (() => undefined)
    this.#peers = peers
    this.#own = own.name
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

  /** A node that was looked for has proved that it is there. One that is connected is where it is. */
  setFound(name: string, address: string): void {
    if (this.#peers.connected().includes(name)) return
    this.#found.set(name, address)
    this.#tell()
  }

  /** Control addresses, `host:port`, of all that are known. */
  addresses(): ReadonlyMap<string, string> {
    const addresses = new Map(
      this.#seats
        .filter(({ address }) => address !== '')
        .map((seat) => [seat.name, seatAddress(seat, 'control')]),
    )
    // What a node said last is newer than the map, which it will correct.
    for (const { name, control } of this.#map?.nodes ?? []) addresses.set(name, control)
    for (const [name, address] of this.#introduced) addresses.set(name, address)
    for (const [name, address] of this.#found) addresses.set(name, address)
    return addresses
  }

  /** Nodes of the region that there is no connection to. */
  missing(): readonly string[] {
    const connected = new Set(this.#peers.connected())
    const names = new Set([...this.#seats, ...(this.#map?.nodes ?? [])].map(({ name }) => name))
    names.delete(this.#own)
    return [...names].filter((name) => !connected.has(name))
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
    this.#found.delete(from)
    this.#tell()
  }

  #tell(): void {
    const addresses = [...this.addresses()]
    for (const [name, address] of addresses) this.#onAddress(name, address)
    this.#peers.setPeers(addresses.map(([name, address]) => ({ name, address })))
  }
}
