import { numberKey, table } from '../../core/catalog/keys.ts'
import { MemoryTables } from '../../core/catalog/memory-tables.ts'
import { readMeta } from '../../core/catalog/meta.ts'
import { applyEntries } from '../../core/catalog/state-machine.ts'
import { rowValue, type TableReader } from '../../core/catalog/tables.ts'
import { Crash, failAfter, isCrash } from './crashing-writer.ts'
import type { SeededRandom } from './seeded-random.ts'

/** Another replica: applies the log of the first at its own pace, in batches of its own, and crashes, too. */
export class Follower {
  readonly tables = new MemoryTables()
  readonly #leader: TableReader
  readonly #random: SeededRandom

  constructor(leader: TableReader, random: SeededRandom) {
    this.#leader = leader
    this.#random = random
  }

  /** One batch from where it is, with a crash anywhere. */
  follow(): void {
    const entries = this.#behind(1 + this.#random.below(8))
    if (entries.length === 0) return
    try {
      this.tables.transact((writer) => {
        const crashing = this.#random.chance(0.2)
        const target = crashing ? failAfter(writer, this.#random.below(entries.length * 6)) : writer
        applyEntries(target, entries, { retainEntries: 0 })
        if (crashing) throw new Crash()
      })
    } catch (error) {
      if (!isCrash(error)) throw error
    }
  }

  /** To the end of the log, without a crash. */
  catchUp(): void {
    for (;;) {
      const behind = this.#behind(100)
      if (behind.length === 0) return
      this.tables.transact((writer) => applyEntries(writer, behind, { retainEntries: 0 }))
    }
  }

  #behind(limit: number): Uint8Array[] {
    const { position } = readMeta(this.tables)
    const entries: Uint8Array[] = []
    const cursor = this.#leader.rows(numberKey(table.log, position + 1), Uint8Array.of(table.log + 1))
    while (entries.length < limit && cursor.next()) entries.push(rowValue(cursor))
    return entries
  }
}
