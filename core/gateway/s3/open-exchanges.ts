import type { Exchange } from './exchange.ts'

/** An exchange that has not ended, and what it had received when somebody last looked at it. */
export interface OpenExchange {
  readonly exchange: Exchange
  atMs: number
  bytes: number
  run: Promise<void>
  /** In the list; of it alone. */
  place: number
}

/**
 * The exchanges that have not ended. In place of a Map: V8 leaves the old table of a Map or Set behind whenever entries that come and go make it
 * anew, and each old one refers to the next. Once one of them has grown old, all that follow stay until the next full collection with what
 * they held: where many requests wait at a time for a read point nearly all of them, and each was copied twice by the collector.
 */
export class OpenExchanges implements Iterable<OpenExchange> {
  private readonly list: OpenExchange[] = []

  add(exchange: Exchange, atMs: number): OpenExchange {
    const open = { exchange, atMs, bytes: 0, run: Promise.resolve(), place: this.list.length }
    this.list.push(open)
    return open
  }

  /** REQUIRES: it was added, and is removed for the first time. */
  remove(open: OpenExchange): void {
    const last = this.list.pop()
    if (last === undefined || last === open) return
    this.list[open.place] = last
    last.place = open.place
  }

  /** Ends of exchanges while it goes on are seen or not. */
  [Symbol.iterator](): Iterator<OpenExchange> {
    return [...this.list][Symbol.iterator]()
  }
}
