import type { ApplyContext } from '../apply-context.ts'
import { bytesOf } from '../encoding.ts'
import { hybridTimeBytes, writeHybridTime } from '../hybrid-time.ts'

/** Time and region of a change: of two changes of one thing in two regions the greater one lasts everywhere. */
export const changedBytes = hybridTimeBytes + 2

/** Of a change that is made now, here. */
export function changedStamp(context: ApplyContext): Uint8Array {
  const changed = Buffer.alloc(changedBytes)
  writeHybridTime(changed, 0, context.tick())
  changed.writeUInt16BE(context.entry.regionId, changedBytes - 2)
  return bytesOf(changed)
}
