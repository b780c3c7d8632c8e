import test, { after } from 'node:test'
import type { NatsClient } from '../../core/cluster/nats/connection.ts'
import { openNatsOrderStreams } from '../../core/cluster/nats/order-streams.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { OrderStreams } from '../../core/contract/order-stream.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { type NatsRegion, startNatsRegion, withoutNats } from '../kit/nats-region.ts'
import { eventually, proveOrderStreams } from '../kit/order-streams.ts'

/** The laws on real servers, alone and as a cluster of three; all laws share them. */
for (const count of [1, 3]) {
  const name = `nats-server x ${count}`
  if (withoutNats !== false) {
    test(name, { skip: withoutNats }, () => {})
    continue
  }
  let region: Promise<NatsRegion> | undefined
  const cleanups: (() => unknown)[] = []
  after(async () => {
    for (const run of cleanups) await run()
  })
  let made = 0
  proveOrderStreams(name, test, async (t) => {
    region ??= startNatsRegion((run) => cleanups.push(run), count)
    const { places, client } = await region
    const open = async (own: NatsClient): Promise<OrderStreams> => {
      await own.connected(20_000)
      const streams = openNatsOrderStreams({
        client: own,
        serverCount: count,
        environment: realEnvironment,
        log: silentLogger,
      })
      t.after(async () => {
        await streams.close()
        await own.close()
      })
      // A cluster chooses its leader in the first seconds.
      await eventually(() => streams.names(''))
      return streams
    }
    return {
      streams: await open(client()),
      prefix: `t${++made}`,
      another: () => open(client(count - 1)),
      silence: async () => {
        await Promise.all(places.map((place) => place.stop()))
        return async () => {
          for (const place of places) place.resume()
        }
      },
    }
  })
}
