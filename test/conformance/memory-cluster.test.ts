import test from 'node:test'
import { realEnvironment } from '../../core/node/environment.ts'
import { MemoryStreamServers } from '../kit/memory-order-streams.ts'
import { MemoryRegion } from '../kit/memory-region-peers.ts'
import { proveOrderStreams } from '../kit/order-streams.ts'
import { proveRegionPeers } from '../kit/region-peers.ts'

/** What simulations of a cluster stand on obeys the same laws as the real thing. */
for (const [name, options] of [
  ['servers in memory', {}],
  ['servers in memory, with delays', { clock: realEnvironment.clock, delayMs: () => Math.random() * 3 }],
] as const) {
  proveOrderStreams(name, test, async () => {
    const servers = new MemoryStreamServers(options)
    const clients = [servers.client()]
    return {
      streams: clients[0] ?? servers.client(),
      prefix: 't',
      async another() {
        const client = servers.client()
        clients.push(client)
        return client
      },
      async silence() {
        for (const client of clients) client.setDown(true)
        return async () => {
          for (const client of clients) client.setDown(false)
        }
      },
    }
  })
}

proveRegionPeers('peers in memory', test, async () => {
  const region = new MemoryRegion({ clock: realEnvironment.clock, delayMs: () => Math.random() * 2 })
  const [a, b, c] = [region.join('a'), region.join('b'), region.join('c')]
  return {
    a,
    b,
    c,
    cut() {
      region.cut('a', 'b')
      return () => region.heal()
    },
  }
})
