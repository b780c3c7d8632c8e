import type { MemoryStreamServers } from '../kit/memory-order-streams.ts'
import type { SeededRandom } from './seeded-random.ts'

/** What servers do that do not sync their disks, and worse. False: this one has nothing that it could lie about. */
export function lieSomewhere(random: SeededRandom, server: MemoryStreamServers): boolean {
  const name = server.names.at(-1)
  if (name === undefined) return false
  const count = server.recordsOf(name).length
  const roll = random.below(10)
  if (roll < 6) server.loseSuffix(name, 1 + random.below(4))
  else if (roll < 8 && count > 1) {
    const from = server.recordsOf(name)[random.below(count)]
    if (from !== undefined) server.alter(name, 1 + random.below(count), from)
  } else if (roll < 9 && count > 0) {
    server.alter(name, 1 + random.below(count), random.fill(new Uint8Array(20)))
  } else server.loseStream(name)
  return true
}
