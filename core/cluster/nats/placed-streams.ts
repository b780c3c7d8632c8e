import { StorageError } from '../../contract/errors.ts'
import type { OrderStreams } from '../../contract/order-stream.ts'

/** A server that orders independently of the others. */
export interface OrderPlace {
  /** Name of its node: without `_`. */
  readonly name: string
  readonly streams: OrderStreams
  readonly isReachable: () => boolean
}

/**
 * Several servers, none of which knows of the others: a stream is on the one that the beginning of its name says, `<place>_<name>`.
 * @param places the nearest first: new streams are made there as long as it answers
 */
export function openPlacedStreams(places: readonly OrderPlace[]): OrderStreams {
  const find = (fullName: string): { readonly place: OrderPlace; readonly name: string } => {
    const at = fullName.indexOf('_')
    if (at < 1) throw new StorageError('INVALID_ARGUMENT', `'${fullName}' does not say on which server it is`)
    const place = places.find(({ name }) => name === fullName.slice(0, at))
    if (place === undefined) {
      // It may be back tomorrow, in the configuration as in the machine room: nothing is known of what it holds.
      throw new StorageError(
        'UNAVAILABLE',
        `the stream '${fullName}' is on a server that is not configured here`,
      )
    }
    return { place, name: fullName.slice(at + 1) }
  }
  return {
    get maxRecordBytes() {
      return Math.min(...places.map(({ streams }) => streams.maxRecordBytes))
    },
    placeFor(name) {
      const place = places.find(({ isReachable }) => isReachable())
      if (place === undefined) throw new StorageError('UNAVAILABLE', 'no server that orders the log answers')
      return `${place.name}_${name}`
    },
    async open(fullName, signal) {
      const { place, name } = find(fullName)
      return { ...(await place.streams.open(name, signal)), name: fullName }
    },
    async create(fullName, signal) {
      const { place, name } = find(fullName)
      return { ...(await place.streams.create(name, signal)), name: fullName }
    },
    async remove(fullName, signal) {
      const { place, name } = find(fullName)
      return place.streams.remove(name, signal)
    },
    /** Of the servers that answer; one at least. */
    async names(prefix, signal) {
      const found = await Promise.allSettled(
        places
          .filter(({ isReachable }) => isReachable())
          .map(async ({ name, streams }) =>
            (await streams.names('', signal)).map((stream) => `${name}_${stream}`),
          ),
      )
      if (!found.some(({ status }) => status === 'fulfilled')) {
        const failed = found.find(({ status }) => status === 'rejected')
        if (failed?.status === 'rejected') throw failed.reason
        throw new StorageError('UNAVAILABLE', 'no server that orders the log answers')
      }
      return found
        .flatMap((outcome) => (outcome.status === 'fulfilled' ? outcome.value : []))
        .filter((name) => name.startsWith(prefix))
        .toSorted()
    },
    async close() {
      await Promise.all(places.map(({ streams }) => streams.close()))
    },
  }
}
