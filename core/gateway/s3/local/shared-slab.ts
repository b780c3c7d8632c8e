import { close, ftruncate, read, write } from 'node:fs'
import { promisify } from 'node:util'
import type { Clock } from '../../../contract/clock.ts'
import { StorageError } from '../../../contract/errors.ts'

/** A block holds at most one piece of an answer (`maxPieceBytes` of body-reader.ts). */
export const blockBytes = 1024 * 1024
/** The first half is the client's, for bodies of requests; the second one is the node's, for bodies of answers. */
export const blocksEachWay = 16
export const slabBytes = 2 * blocksEachWay * blockBytes
/** What one answer may hold: more gains nothing, and leaves less to the others. */
const blocksOfAnswer = 4

const readAt = promisify(read)
const writeAt = promisify(write)
const truncate = promisify(ftruncate)

/** Where a piece of an answer lies, for the client. */
export interface FilledBlock {
  readonly block: number
  readonly length: number
}

/**
 * The memory that one client and this node share: a file on tmpfs, read and written by position. It is not mapped, so that a client
 * that makes the file shorter causes a short read here and no fault; and what was read is a copy, whatever the client writes
 * afterwards.
 */
export class SharedSlab {
  readonly name: string
  /** The memory has been given back: nobody is in the middle of a read or a write of it. */
  readonly ended: Promise<void>
  readonly #descriptor: number
  readonly #free: number[] = Array.from({ length: blocksEachWay }, (_, index) => blocksEachWay + index)
  readonly #answers = new Map<number, SlabAnswer>()
  #tellEnd = (): void => {}
  #uses = 0
  #isClosing = false

  /** Closes the descriptor in the end. */
  constructor(name: string, descriptor: number) {
    this.name = name
    this.#descriptor = descriptor
    this.ended = new Promise((resolve) => {
      this.#tellEnd = resolve
    })
  }

  get isClosing(): boolean {
    return this.#isClosing
  }

  /** Bytes of the file at `position`, as many as there are. */
  async read(target: Uint8Array, position: number): Promise<number> {
    this.#use()
    try {
      return (await readAt(this.#descriptor, target, 0, target.length, position)).bytesRead
    } finally {
      this.#leave()
    }
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    this.#use()
    try {
      const { bytesWritten } = await writeAt(this.#descriptor, bytes, 0, bytes.length, position)
      if (bytesWritten !== bytes.length) throw new StorageError('UNAVAILABLE', 'shared memory is short')
    } finally {
      this.#leave()
    }
  }

  /** Room for the body of an answer; undefined when there is none now, or the client uses the number already. */
  openAnswer(id: number, clock: Clock, idleTimeoutMs: number): SlabAnswer | undefined {
    if (this.#isClosing || this.#answers.has(id)) return undefined
    const first = this.#free.pop()
    if (first === undefined) return undefined
    const answer = new SlabAnswer(
      this,
      first,
      {
        take: () => this.#free.pop(),
        give: (blocks) => this.#free.push(...blocks),
        over: () => this.#answers.delete(id),
      },
      clock,
      idleTimeoutMs,
    )
    this.#answers.set(id, answer)
    return answer
  }

  /** The client has taken the oldest block of an answer. What it says of answers that are over means nothing. */
  acknowledge(id: number): void {
    this.#answers.get(id)?.acknowledge()
  }

  /** The client reads nothing more of an answer. */
  abandon(id: number): void {
    this.#answers.get(id)?.abandon()
  }

  /** The client has gone: whoever waits for it is told, and the memory is given back when nobody is in the middle of it. */
  close(): void {
    if (this.#isClosing) return
    this.#isClosing = true
    for (const answer of this.#answers.values()) answer.abandon()
    if (this.#uses === 0) this.#end()
  }

  #use(): void {
    if (this.#isClosing) throw cancelled('the client has gone')
    this.#uses += 1
  }

  #leave(): void {
    this.#uses -= 1
    if (this.#isClosing && this.#uses === 0) this.#end()
  }

  /** The client may still hold a descriptor: the memory is given back nevertheless. */
  #end(): void {
    const closeIt = (): void => close(this.#descriptor, () => this.#tellEnd())
    truncate(this.#descriptor, 0).then(closeIt, closeIt)
  }
}

interface BlockLender {
  take(): number | undefined
  give(blocks: readonly number[]): void
  over(): void
}

/** The body of one answer on its way through the slab: blocks that are filled, told, read and filled again. */
export class SlabAnswer {
  readonly #slab: SharedSlab
  readonly #lender: BlockLender
  readonly #clock: Clock
  readonly #idleTimeoutMs: number
  /** Blocks of this answer that hold nothing. */
  readonly #idle: number[]
  /** Filled and told, oldest first. */
  readonly #told: number[] = []
  #wake: (() => void) | undefined
  #isSent = false
  #isAbandoned = false

  constructor(slab: SharedSlab, first: number, lender: BlockLender, clock: Clock, idleTimeoutMs: number) {
    this.#slab = slab
    this.#idle = [first]
    this.#lender = lender
    this.#clock = clock
    this.#idleTimeoutMs = idleTimeoutMs
  }

  /** Copies at most a block's length. CANCELLED: the client has gone, or has read nothing for too long. */
  async put(piece: Uint8Array): Promise<FilledBlock> {
    const block = await this.#block()
    // Told before it is written, so that nobody else gets it whatever happens meanwhile.
    this.#told.push(block)
    await this.#slab.write(piece, block * blockBytes)
    return { block, length: piece.length }
  }

  /** Nothing more comes; what the client has not read yet is its own until it says so. */
  end(): void {
    this.#isSent = true
    this.#lender.give(this.#idle.splice(0))
    this.#settle()
  }

  acknowledge(): void {
    const block = this.#told.shift()
    if (block === undefined) return
    if (this.#isSent) this.#lender.give([block])
    else this.#idle.push(block)
    this.#settle()
  }

  abandon(): void {
    this.#isAbandoned = true
    this.#settle()
  }

  #settle(): void {
    this.#wake?.()
    if (!this.#isSent || (this.#told.length > 0 && !this.#isAbandoned)) return
    this.#lender.give(this.#told.splice(0))
    this.#lender.over()
  }

  async #block(): Promise<number> {
    for (;;) {
      if (this.#isAbandoned) throw cancelled('the client reads no more of the answer')
      const idle = this.#idle.pop()
      if (idle !== undefined) return idle
      const another = this.#told.length < blocksOfAnswer ? this.#lender.take() : undefined
      if (another !== undefined) return another
      await this.#acknowledgement()
    }
  }

  async #acknowledgement(): Promise<void> {
    const timer = new AbortController()
    const late = this.#clock.sleep(this.#idleTimeoutMs, timer.signal).then(
      () => true,
      () => false,
    )
    const woken = new Promise<boolean>((resolve) => {
      this.#wake = () => resolve(false)
    })
    const isLate = await Promise.race([late, woken])
    this.#wake = undefined
    timer.abort(over)
    if (isLate) throw cancelled('the client has read nothing for too long')
  }
}

const over = new StorageError('CANCELLED', 'the wait is over')
const cancelled = (why: string): StorageError => new StorageError('CANCELLED', why)
