import test, { after, type TestContext } from 'node:test'
import type { NatsClient } from '../../core/cluster/nats/connection.ts'
import { openNatsOrderStreams } from '../../core/cluster/nats/order-streams.ts'
import { openPlacedStreams } from '../../core/cluster/nats/placed-streams.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { OrderStreams } from '../../core/contract/order-stream.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { type NatsPlace, type NatsRegion, startNatsRegion, withoutNats } from '../kit/nats-region.ts'
import { eventually, proveOrderStreams } from '../kit/order-streams.ts'

/** Servers of their own for each subject, shared by all its laws. */
interface Subject {
  readonly name: string
  readonly count: number
  readonly kind: 'cluster' | 'independent'
}

const subjects: readonly Subject[] = [
  { name: 'nats-server', count: 1, kind: 'independent' },
  { name: 'three nats-servers as a cluster', count: 3, kind: 'cluster' },
  { name: 'three nats-servers that know nothing of each other', count: 3, kind: 'independent' },
]

async function streamsOf(t: TestContext, client: NatsClient, serverCount: number): Promise<OrderStreams> {
  await client.connected(20_000)
  const streams = openNatsOrderStreams({
    client,
    serverCount,
    environment: realEnvironment,
    log: silentLogger,
  })
  t.after(async () => {
    await streams.close()
    await client.close()
  })
  // A cluster chooses its leader in the first seconds.
  await eventually(() => streams.names(''))
  return streams
}

/** As a node sees the servers, the one with the number `nearest` first. */
async function open(t: TestContext, region: NatsRegion, { count, kind }: Subject, nearest: number) {
  if (count === 1 || kind === 'cluster') return streamsOf(t, region.client(nearest), count)
  const indexes = region.places.map((_, index) => (index + nearest) % count)
  return openPlacedStreams(
    await Promise.all(
      indexes.map(async (index) => {
        const client = region.clientOf(index)
        const streams = await streamsOf(t, client, 1)
        return { name: `node-${index}`, streams, isReachable: () => client.isConnected }
      }),
    ),
  )
}

async function silence(places: readonly NatsPlace[]): Promise<() => Promise<void>> {
  await Promise.all(places.map((place) => place.stop()))
  return async () => {
    for (const place of places) place.resume()
  }
}

for (const subject of subjects) {
  if (withoutNats !== false) {
    test(subject.name, { skip: withoutNats }, () => {})
    continue
  }
  let region: Promise<NatsRegion> | undefined
  const cleanups: (() => unknown)[] = []
  after(async () => {
    for (const run of cleanups) await run()
  })
  let made = 0
  proveOrderStreams(subject.name, test, async (t) => {
    region ??= startNatsRegion((run) => cleanups.push(run), subject.count, subject.kind)
    const own = await region
    const streams = await open(t, own, subject, 0)
    const name = `t${++made}`
    return {
      streams,
      prefix: streams.placeFor?.(name) ?? name,
      another: () => open(t, own, subject, subject.count - 1),
      silence: () => silence(own.places),
    }
  })
}
