import type { OutboxTraces } from '../contract/trace.ts'

/** Some minutes of a busy node whose every request is traced. A region that comes later takes the entries over without. */
const mostEntries = 16_384

/** By the process that served the request: in a region of several nodes the others know nothing of it. */
export function createOutboxTraces(capacity = mostEntries): OutboxTraces {
  const known = new Map<string, string>()
  const nameOf = (bucketId: number, lsn: number): string => `${bucketId}/${lsn}`
  return {
    get size() {
      return known.size
    },
    remember(bucketId, lsn, traceParent) {
      const name = nameOf(bucketId, lsn)
      known.delete(name)
      known.set(name, traceParent)
      for (const oldest of known.keys()) {
        if (known.size <= capacity) break
        known.delete(oldest)
      }
    },
    recall: (bucketId, lsn) => known.get(nameOf(bucketId, lsn)),
  }
}
