import assert from 'node:assert/strict'
import { silentLogger } from '../../core/contract/logger.ts'
import { ReplicationSource } from '../../federation/replication/source.ts'
import { placed, type TestRegion } from './replicated-buckets.ts'

const unused = (): never => assert.fail('nobody asks for bodies')

/**
 * As a follower does it, without bodies: asks the source until it has nothing more to say. The reasons why it had to begin again.
 * `isCut`: the way is gone once something was applied, so that the source never hears of that.
 */
export async function follow(
  from: TestRegion,
  to: TestRegion,
  { isCut = false } = {},
): Promise<readonly string[]> {
  const source = new ReplicationSource({
    ...{ regionId: from.id, catalog: from.catalog, log: silentLogger },
    ...{ chunks: { get: unused }, writes: { pin: unused } },
    clock: { now: () => from.clock.nowMs, monotonic: () => 0, sleep: unused },
  })
  const bucketId = to.catalog.bucket('b')?.id ?? 0
  const sourceId = from.catalog.bucket('b')?.id ?? 0
  const backfill = (): void => {
    while (from.catalog.replication.outbox(sourceId)?.backfill !== undefined) {
      from.catalog.run({ type: 'backfill', bucketId: sourceId })
    }
  }
  const reasons: string[] = []
  for (let turns = 0; turns < 50; turns++) {
    const cursor = to.catalog.replication.cursor(bucketId, from.id)
    const { logId = '', received = { lsn: 0, chain: new Uint8Array(32) }, watermark = 0 } = cursor ?? {}
    const question = { bucket: 'b', logId, after: received, watermark, dead: [], limit: 100 }
    const reply = await source.pull(to.id, question)
    if (reply.kind === 'start') {
      const { logId, at, reason } = reply
      reasons.push(reason)
      to.catalog.run({ type: 'set-cursor', bucketId, source: from.id, logId, at })
      backfill()
      continue
    }
    if (reply.entries.length === 0) return reasons
    const entries = reply.entries.map((bytes) => placed(to, bytes))
    to.catalog.run({
      ...{ type: 'apply-remote', bucketId, source: from.id, logId, after: received.lsn, entries },
    })
    if (isCut) return reasons
  }
  return assert.fail('it never comes to an end')
}
