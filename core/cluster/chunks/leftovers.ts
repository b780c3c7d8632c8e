import type { ChunkInfo } from '../../contract/chunk-store.ts'
import { fragmentOf, type Stripe } from '../../contract/erasure.ts'
import { StorageError } from '../../contract/errors.ts'
import { type ChunkId, chunkOwner } from '../../contract/ids.ts'
import { backgroundClass } from '../../contract/qos.ts'
import { sendDamage } from './damage-messages.ts'
import { fragmentHolder, isHolderOf, ownStripe } from './fragment-places.ts'
import { type ChunkLayout, groupOf } from './layout.ts'
import type { RepairParts } from './repair-parts.ts'

const listBatch = 512
const checksAtOnce = 16
const hasDeadlineMs = 5000
/** Of a copy that is looked at whole: several are on their way at once, and hold buffers that others need. */
const lookBytes = 256 * 1024
const lookDeadlineMs = 10_000

/**
 * Frees the copies here of groups that are not ours any more. Each goes only when all holders of its group have answered that they have
 * it: a copy too many for a while is cheap. Who has not is told. That a store has a chunk says nothing of its bytes: where one node alone
 * is to have it, so that nobody could repair it afterwards, its copy is read first. Chunks that nothing owns are left to the search for orphans.
 */
export async function freeLeftovers(
  parts: RepairParts,
  layout: ChunkLayout,
  signal: AbortSignal,
): Promise<{ readonly freed: number; readonly left: number }> {
  const { self, local, catalog } = parts
  const report = { freed: 0, left: 0 }
  let after: ChunkId | null = null
  for (;;) {
    signal.throwIfAborted()
    const batch: readonly ChunkInfo[] = await local.list(after, listBatch)
    after = batch.at(-1)?.id ?? null
    if (after === null) return report
    const foreign = batch.flatMap(({ id, byteLength }) => {
      if (catalog.writeOwner(chunkOwner(id).writeId) === undefined) return []
      const stripe = fragmentOf(id) === undefined ? undefined : ownStripe(catalog, id)
      return isHolderOf(layout, self, id, stripe) ? [] : [{ id, byteLength, stripe }]
    })
    for (let start = 0; start < foreign.length; start += checksAtOnce) {
      await Promise.all(
        foreign.slice(start, start + checksAtOnce).map(async ({ id, byteLength, stripe }) => {
          const holders = holdersOf(layout, id, stripe)
          // While there are fewer nodes than fragments it has no place, and is kept for the day when there is one.
          if (holders.includes('')) return
          const [only = ''] = holders
          const isElsewhere =
            holders.length === 1 && stripe === undefined
              ? await isSoundAt(parts, only, id, byteLength)
              : await atAllHolders(parts, holders, id, stripe)
          // The map may have made it ours again while the others were asked.
          if (!isElsewhere || parts.layout() !== layout) report.left++
          else {
            await local.delete(id, backgroundClass)
            report.freed++
          }
        }),
      )
      signal.throwIfAborted()
    }
  }
}

function holdersOf(layout: ChunkLayout, id: ChunkId, stripe: Stripe | undefined): readonly string[] {
  const fragment = fragmentOf(id)
  if (fragment === undefined || stripe === undefined) return layout.writers(groupOf(id))
  return [fragmentHolder(layout, stripe, id, fragment)]
}

async function atAllHolders(
  { chunkPeers, peers }: RepairParts,
  holders: readonly string[],
  id: ChunkId,
  stripe: Stripe | undefined,
): Promise<boolean> {
  const answers = await Promise.all(
    holders.map(async (name) => {
      try {
        const has = (await chunkPeers(name)?.chunks.has(id, { deadlineMs: hasDeadlineMs })) ?? false
        if (!has)
          sendDamage(peers, name, [{ id, isCorrupt: false, ...(stripe === undefined ? {} : { stripe }) }])
        return has
      } catch {
        return false
      }
    }),
  )
  return holders.length > 0 && answers.every((has) => has)
}

/** Whether a node's copy can be read. What is wrong with it is told: repair there finds the one that is here. */
async function isSoundAt(
  { chunkPeers, peers }: RepairParts,
  name: string,
  id: ChunkId,
  byteLength: number,
): Promise<boolean> {
  const chunks = chunkPeers(name)?.chunks
  if (chunks === undefined) return false
  try {
    for (let at = 0; at < byteLength; at += lookBytes) {
      const length = Math.min(lookBytes, byteLength - at)
      const buffer = await chunks.get(id, at, length, { deadlineMs: lookDeadlineMs })
      const isWhole = buffer.bytes.length === length
      buffer.release()
      if (!isWhole) return false
    }
    return true
  } catch (reason) {
    const { code } = StorageError.from(reason)
    if (code === 'CORRUPT_CHUNK' || code === 'CHUNK_NOT_FOUND')
      sendDamage(peers, name, [{ id, isCorrupt: code === 'CORRUPT_CHUNK' }])
    return false
  }
}
