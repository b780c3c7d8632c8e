import { createHash } from 'node:crypto'
import type { Position } from '../../contract/ordered-log.ts'
import { voterName } from './generation.ts'
import type { Replica } from './replica.ts'

/** Of 24 bytes: whose they are, the position, that of the rules. */
const tagBytes = 12
const rulesAt = 18
const noticeBytes = 24
/** How far a voter has come, and the last entry of it that may have changed more than objects. */
export interface ReadPoint {
  readonly position: Position
  readonly rules: Position
}

/** Tags that are kept; a region has fewer voters. */
const maxTags = 1024

/**
 * How far each voter has come, posted where the others read it without waking it. A node posts its place before it claims it to anybody,
 * so whatever was ever acknowledged with its word is on its board: what a board says is as good as an answer of the node itself.
 */
export class PlaceBoard {
  private readonly replica: Replica
  private readonly tags = new Map<string, Buffer>()
  private posted: (ReadPoint & { readonly log: string; readonly self: string }) | undefined

  constructor(replica: Replica) {
    this.replica = replica
  }

  /** Before a claim of this node leaves it, or counts in it. */
  note(): void {
    const { options, row, store, selfId: self, rejoin } = this.replica
    // Who reads it would count on it.
    if (!rejoin.isDone) return
    const { board } = options
    const log = row.founding?.log
    if (board === undefined || log === undefined) return
    const { position, rules } = store
    const { posted } = this
    // A copy of another branch may be as long, and another entry of it the last that changed rules.
    const isSame = posted?.position === position && posted.rules === rules
    if (isSame && posted.log === log && posted.self === self) return
    const notice = Buffer.alloc(noticeBytes)
    notice.set(this.tag(log, self))
    notice.writeUIntLE(position, tagBytes, 6)
    notice.writeUIntLE(rules, rulesAt, 6)
    board.post(notice)
    this.posted = { position, rules, log, self }
  }

  /** Undefined: the node itself must be asked. */
  async read(voter: string, deadlineMs: number): Promise<ReadPoint | undefined> {
    const { options, row } = this.replica
    const log = row.founding?.log
    if (options.board === undefined || log === undefined) return undefined
    const notice = await options.board.read(voterName(voter), deadlineMs).catch(() => undefined)
    if (notice?.length !== noticeBytes) return undefined
    const bytes = Buffer.from(notice.buffer, notice.byteOffset, notice.byteLength)
    // One that began anew, or is of another region, says so itself.
    if (this.tag(log, voter).compare(bytes, 0, tagBytes) !== 0) return undefined
    return { position: bytes.readUIntLE(tagBytes, 6), rules: bytes.readUIntLE(rulesAt, 6) }
  }

  /** Whose word it is, and of which log. */
  private tag(log: string, voter: string): Buffer {
    const key = `${log} ${voter}`
    const known = this.tags.get(key)
    if (known !== undefined) return known
    if (this.tags.size >= maxTags) this.tags.clear()
    const tag = createHash('sha256').update(key).digest().subarray(0, tagBytes)
    this.tags.set(key, tag)
    return tag
  }
}
