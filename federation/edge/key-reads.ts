/** A version on its way here, for all who read it. */
export interface VersionFetch {
  readonly isNull: boolean
  readonly done: Promise<void>
  /** Of the newest answer that told of it. */
  entry: Uint8Array
  number: number
  /** Of the newest answer by which it is the current version of its key; 0: it was asked for by its id only. */
  currentNumber: number
  /** A newer answer said that the hub has it no more. */
  isGone: boolean
}

/**
 * One key, while somebody reads it. Answers of the hub may come, and bodies end, in another order than the hub was asked in: what an older
 * answer tells must not take the place of what a newer one told, or who read that would be shown what the hub has replaced. So each is
 * taken in its turn, and by its number.
 */
export class KeyReads {
  users = 0
  /** The newest answer that was taken: of any version, and of the current one. */
  settled = 0
  settledCurrent = 0
  /** By version id, in hex. */
  readonly fetches = new Map<string, VersionFetch>()
  #last: Promise<void> = Promise.resolve()

  /** One after the other, in the order of the calls. */
  async inTurn<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#last
    let end = (): void => undefined
    this.#last = new Promise((resolve) => {
      end = resolve
    })
    await before
    try {
      return await work()
    } finally {
      end()
    }
  }

  take(number: number, isCurrent: boolean): void {
    this.settled = Math.max(this.settled, number)
    if (isCurrent) this.settledCurrent = Math.max(this.settledCurrent, number)
  }

  /** The hub has no such version any more, or no version at all. */
  giveUp(number: number, version: string | undefined): void {
    for (const [id, fetch] of this.fetches) {
      const isMeant = version === undefined || version === id || (version === 'null' && fetch.isNull)
      if (isMeant && fetch.number < number) fetch.isGone = true
    }
  }
}
