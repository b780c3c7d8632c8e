import type { QosExplanation } from '../contract/qos.ts'

export type Explained = { -readonly [Field in keyof QosExplanation]: QosExplanation[Field] }

/** The last so many requests, in a ring of records that are used again: nothing is allocated for a request. */
export class DecisionLog {
  readonly #ring: Explained[] = []
  readonly #capacity: number
  #next = 0

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  /** A record to fill in. It may be kept and changed as long as its `requestId` is still the request's. */
  claim(): Explained {
    const index = this.#next
    this.#next = (index + 1) % this.#capacity
    const used = this.#ring[index]
    if (used !== undefined) return used
    const made = blank()
    this.#ring[index] = made
    return made
  }

  find(requestId: string): QosExplanation | undefined {
    for (const record of this.recent(this.#capacity)) if (record.requestId === requestId) return record
    return undefined
  }

  /** Copies, newest first. */
  recent(count: number): readonly QosExplanation[] {
    const records: QosExplanation[] = []
    for (let back = 1; back <= Math.min(count, this.#ring.length); back++) {
      const record = this.#ring[(this.#next - back + this.#capacity) % this.#capacity]
      if (record !== undefined) records.push({ ...record })
    }
    return records
  }
}

const blank = (): Explained => ({
  requestId: '',
  atMs: 0,
  operation: '',
  tenant: '',
  bucket: undefined,
  byteLength: 0,
  class: '',
  priority: 0,
  classifiedBy: '',
  classifyReason: 0,
  admittedBy: '',
  admitReason: 0,
  tokens: 0,
  tokenWaitMs: 0,
  queueDepth: 0,
  inFlight: 0,
  concurrencyLimit: 0,
  outcome: 'waiting',
  reason: '',
  queuedMs: 0,
  pacedMs: 0,
})
