/**
 * One submission and one completion ring in memory shared with a native thread; native/include/pando/port_layout.h
 * tells the layout and the protocol. Words are 32-bit; Atomics on them are sequentially consistent, which the
 * sleeping and armed flags need. Positions run freely and wrap at 2^32.
 */

const wordsPerLine = 16
const sqHead = 0
const sqTail = wordsPerLine
const sleeping = 2 * wordsPerLine
const cqHead = 3 * wordsPerLine
const cqTail = 4 * wordsPerLine
const armed = 5 * wordsPerLine
const constants = 7 * wordsPerLine

const portMagic = 0x54524f50
const layoutVersion = 1

/** How many completions one turn of the event loop handles before it lets others have theirs. */
const completionsPerTurn = 1024

export interface RingEntryBytes {
  readonly submission: number
  readonly completion: number
}

export class RingPair {
  /** All words of the region; entries are addressed by their first word. */
  readonly words: Int32Array
  readonly bytes: Uint8Array
  readonly submissionEntries: number
  readonly completionEntries: number
  readonly #sqFirst: number
  readonly #cqFirst: number
  readonly #sqWords: number
  readonly #cqWords: number
  readonly #kick: () => void
  #tail = 0
  #head = 0
  #publishing = false

  constructor(rings: ArrayBuffer, entryBytes: RingEntryBytes, kick: () => void) {
    this.words = new Int32Array(rings)
    this.bytes = new Uint8Array(rings)
    if (this.#word(constants) !== portMagic || this.#word(constants + 1) !== layoutVersion) {
      throw new Error('the native data plane was built from other sources: build it again')
    }
    this.submissionEntries = this.#word(constants + 2)
    this.completionEntries = this.#word(constants + 3)
    this.#sqFirst = this.#word(constants + 4) / 4
    this.#cqFirst = this.#word(constants + 5) / 4
    this.#sqWords = entryBytes.submission / 4
    this.#cqWords = entryBytes.completion / 4
    this.#kick = kick
  }

  #word(index: number): number {
    return this.words[index] ?? 0
  }

  /** Whether `nextSubmission` may be called. */
  get hasRoom(): boolean {
    return ((this.#tail - Atomics.load(this.words, sqHead)) | 0) < this.submissionEntries
  }

  /** First word of the next entry, zeroed. The entry is published with all others of this turn. REQUIRES: hasRoom. */
  nextSubmission(): number {
    const first = this.#sqFirst + (this.#tail & (this.submissionEntries - 1)) * this.#sqWords
    this.words.fill(0, first, first + this.#sqWords)
    this.#tail = (this.#tail + 1) | 0
    if (!this.#publishing) {
      this.#publishing = true
      queueMicrotask(this.#publish)
    }
    return first
  }

  readonly #publish = (): void => {
    this.#publishing = false
    // A closed bridge has detached the region.
    if (this.words.length === 0) return
    Atomics.store(this.words, sqTail, this.#tail)
    if (Atomics.load(this.words, sleeping) === 1) this.#kick()
  }

  /**
   * Hands completions to `handle` by their first word, at most one turn's worth; true when there may be more. Otherwise
   * the doorbell is armed and rings for the next.
   */
  drain(handle: (first: number) => void): boolean {
    const { words } = this
    let left = completionsPerTurn
    for (;;) {
      const tail = Atomics.load(words, cqTail)
      while (this.#head !== tail && left > 0) {
        left--
        const first = this.#cqFirst + (this.#head & (this.completionEntries - 1)) * this.#cqWords
        this.#head = (this.#head + 1) | 0
        handle(first)
        // `handle` runs callers' code, which may have closed and so detached the region.
        if (words.length === 0) return false
      }
      Atomics.store(words, cqHead, this.#head)
      if (this.#head !== tail) return true
      Atomics.store(words, armed, 1)
      // Looked at again: a completion that came before the flag was up rang no bell.
      if (Atomics.load(words, cqTail) === this.#head) break
      Atomics.store(words, armed, 0)
    }
    // The native side stops taking entries while completions have no room; now they have.
    if (Atomics.load(words, sqHead) !== Atomics.load(words, sqTail) && Atomics.load(words, sleeping) === 1) {
      this.#kick()
    }
    return false
  }
}
