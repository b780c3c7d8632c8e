/**
 * What the catalog's thread and its writer's thread say to each other. Entries and answers travel as one transferred buffer
 * per message: u32 count, then for each a u32 length, then the bytes one after the other.
 */
export interface WriterSettings {
  readonly directory: string
  readonly retainEntries: number
  /**
   * With less than this free on the device, changes that add something are refused with INSUFFICIENT_STORAGE; deletes and
   * maintenance go on.
   */
  readonly minFreeBytes: number
}

export type ToWriter =
  | { readonly type: 'append'; readonly entries: ArrayBuffer }
  /** Answered by `trimmed` with the same number. */
  | { readonly type: 'trim'; readonly number: number; readonly before: number }
  | { readonly type: 'close' }

export type FromWriter =
  /** `position`: of the newest entry that is durable. */
  | { readonly type: 'ready'; readonly position: number }
  /** Durable. In the order of the entries; the last one has `position`. */
  | { readonly type: 'applied'; readonly position: number; readonly answers: ArrayBuffer }
  /** Nothing of these `count` entries has happened, and the writer goes on. */
  | {
      readonly type: 'refused'
      readonly count: number
      readonly code: string
      readonly reason: string
    }
  | { readonly type: 'trimmed'; readonly number: number }
  /**
   * The last message: the thread ends. INSUFFICIENT_STORAGE: the device had no room for the transaction, and another thread may go on
   * behind `position`, the newest that is durable. Undefined where that cannot be told.
   */
  | { readonly type: 'failed'; readonly code: string; readonly reason: string; readonly position?: number }

export function joinBytes(parts: readonly Uint8Array[]): ArrayBuffer {
  let length = 4 + 4 * parts.length
  for (const part of parts) length += part.length
  const joined = new Uint8Array(length)
  const view = new DataView(joined.buffer)
  view.setUint32(0, parts.length)
  let at = 4 + 4 * parts.length
  for (const [index, part] of parts.entries()) {
    view.setUint32(4 + 4 * index, part.length)
    joined.set(part, at)
    at += part.length
  }
  return joined.buffer
}

/** Views into `joined`. */
export function splitBytes(joined: ArrayBuffer): Uint8Array[] {
  const view = new DataView(joined)
  const count = view.getUint32(0)
  const parts: Uint8Array[] = []
  let at = 4 + 4 * count
  for (let index = 0; index < count; index++) {
    const length = view.getUint32(4 + 4 * index)
    parts.push(new Uint8Array(joined, at, length))
    at += length
  }
  return parts
}
