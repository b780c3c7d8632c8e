import type { OutboxTraces } from '../contract/trace.ts'

/** Some minutes of a busy node whose every request is traced. A region that comes later takes the entries over without. */
const mostEntries = 16_384

/** By the process that served the request: in a region of several nodes the others know nothing of it. */
export function createOutboxTraces(capacity = mostEntries): OutboxTraces {
  const known = new Map<string, string>()
  /** By bucket: what has no place yet. Bounded by the requests that are served at one time. */
  const awaited = new Map<number, Set<Promise<void>>>()
  const nameOf = (bucketId: number, lsn: number): string => `${bucketId}/${lsn}`

  function remember(bucketId: number, lsn: number, traceParent: string): void {
    const name = nameOf(bucketId, lsn)
    known.delete(name)
    known.set(name, traceParent)
    for (const oldest of known.keys()) {
      if (known.size <= capacity) break
      known.delete(oldest)
    }
  }

  return {
    get size() {
      return known.size
    },
    expect(bucketId, traceParent) {
      let settle = (): void => undefined
      const told = new Promise<void>((resolve) => {
        settle = resolve
      })
      const here = awaited.get(bucketId) ?? new Set()
      awaited.set(bucketId, here.add(told))
      return (lsn) => {
        if (!here.delete(told)) return
        if (here.size === 0) awaited.delete(bucketId)
        if (lsn !== undefined) remember(bucketId, lsn, traceParent)
        settle()
      }
    },
    expected(bucketId) {
      const here = awaited.get(bucketId)
      return here === undefined ? undefined : Promise.all(here).then(() => undefined)
    },
    recall: (bucketId, lsn) => known.get(nameOf(bucketId, lsn)),
  }
}
