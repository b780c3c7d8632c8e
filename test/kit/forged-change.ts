import type { DirectCatalog } from '../../core/catalog/direct-catalog.ts'
import { encodeText } from '../../core/catalog/keys.ts'
import { encodeOutboxEntry } from '../../core/catalog/replication/entry-codec.ts'
import { cursorKey, retryKey, retryOfKey } from '../../core/catalog/replication/keys.ts'
import { encodeCursor, encodeRetry, readCursor } from '../../core/catalog/replication/rows.ts'
import type { Tables } from '../../core/catalog/tables.ts'
import type { Layout } from '../../core/contract/object-model.ts'
import type { ReplicatedChange } from '../../core/contract/replication.ts'

/**
 * Makes a copy other than its source, as a fault of this software or of a machine would: a change that the source never made goes
 * through the retry table, and leaves nothing behind but what it does.
 */
export function forgeChange(
  { tables, catalog }: { readonly tables: Tables; readonly catalog: DirectCatalog },
  bucketId: number,
  source: number,
  change: ReplicatedChange & { readonly key: string },
  layout?: Layout,
): void {
  const cursor = readCursor(tables.reader, bucketId, source)
  if (cursor === undefined) throw new Error('the bucket follows no source')
  const lsn = 0x7fff_ffff
  // Not earlier than any version that it may bring, nor as late as to be refused.
  const time = { ms: catalog.lastTimeMs() + 60_000, counter: 0 }
  const bytes = encodeOutboxEntry({ lsn, epoch: 1, origin: source, time, change })
  const { key } = change
  tables.transact((writer) => {
    writer.put(
      retryKey(bucketId, source, lsn),
      encodeRetry({ lsn, key, bytes, sinceMs: 0, attempts: 0, nextMs: 0, reason: 'forged', dead: false }),
    )
    writer.put(retryOfKey(bucketId, source, encodeText(key), lsn), new Uint8Array(0))
    writer.put(cursorKey(bucketId, source), encodeCursor({ ...cursor, retries: cursor.retries + 1 }))
  })
  const { applied } = catalog.run({
    ...{ type: 'retry-remote', bucketId, source, lsn },
    ...(layout === undefined ? {} : { layout }),
  })
  if (!applied) throw new Error('the forged change was not applied')
}
