import type { MemoryStore } from '../kit/memory-store.ts'
import type { SeededRandom } from './seeded-random.ts'

/** Some of what a disk holds goes bad, and nobody is told. */
export async function rot(disk: MemoryStore, random: Pick<SeededRandom, 'below'>): Promise<void> {
  for (const { id } of await disk.list(null, 1e6)) if (random.below(3) === 0) disk.damage(id)
}

/** Reads all of it, and tells what is bad, as a node does. */
export async function scrub(disk: MemoryStore, found: (id: Uint8Array) => void): Promise<void> {
  for await (const { id } of disk.scrub()) if (id !== undefined) found(id)
}
