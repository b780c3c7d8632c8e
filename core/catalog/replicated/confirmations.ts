import type { Position } from '../../contract/ordered-log.ts'
import { provenPosition, type VoterSet } from './generation.ts'

/** A voter said that it has durably applied this much, in the generation at hand. */
export interface Claim {
  readonly position: Position
  readonly chain: Uint8Array
  /** What it knew to be confirmed when it said so, on the branch that it had then. */
  readonly confirmed: Position
}

/** Claims of one voter that this node cannot check yet, because it has not come so far. */
const maxClaimsAhead = 64

/**
 * Which voters hold how much of this node's own branch, in one generation. A claim counts only once this node's chain at its position
 * is the same; another chain there means that the stream gave different records to different nodes.
 */
export class Confirmations {
  private readonly chainAt: (position: Position) => Uint8Array | undefined
  private readonly proven = new Map<string, Position>()
  private readonly ahead = new Map<string, Claim[]>()
  /**
   * Confirmed as others know it, as far as this node has the same as they had. Only within one claim: a node without a vote may have
   * changed its branch between two of them.
   */
  told = -1

  constructor(chainAt: (position: Position) => Uint8Array | undefined) {
    this.chainAt = chainAt
  }

  /** Answers false when the claim contradicts this node's own branch. */
  note(voter: string, claim: Claim, tip: Position): boolean {
    if (claim.position > tip) {
      this.keep(voter, claim)
      return true
    }
    return this.check(voter, claim)
  }

  /** This node has come to `tip`: answers the voters whose claims contradict its branch. */
  advance(tip: Position): readonly string[] {
    const contradicting: string[] = []
    for (const [voter, claims] of this.ahead) {
      let at = 0
      for (let claim = claims[at]; claim !== undefined && claim.position <= tip; claim = claims[++at]) {
        if (!this.check(voter, claim)) contradicting.push(voter)
      }
      if (at === claims.length) this.ahead.delete(voter)
      else if (at > 0) claims.splice(0, at)
    }
    return contradicting
  }

  /** The newest position that a majority has proved to hold; -1: none. */
  position(sets: readonly VoterSet[], tip: Position, self: string): number {
    return provenPosition(sets, tip, (voter) => (voter === self ? tip : (this.proven.get(voter) ?? -1)))
  }

  reach(voter: string): number {
    return this.proven.get(voter) ?? -1
  }

  /** The furthest that a voter has said to hold in this generation, as far as this process remembers. */
  claimed(voter: string): Pick<Claim, 'position' | 'chain'> | undefined {
    const ahead = this.ahead.get(voter)?.at(-1)
    if (ahead !== undefined) return ahead
    const position = this.reach(voter)
    const chain = position < 0 ? undefined : this.chainAt(position)
    return chain === undefined ? undefined : { position, chain }
  }

  /**
   * What the node that says so knows to be confirmed is, whether its word counts or not. Answers whether this node's branch is the same
   * there; undefined when that cannot be told.
   */
  hear({ position, chain, confirmed }: Claim): boolean | undefined {
    const own = this.chainAt(position)
    if (own === undefined) return undefined
    if (Buffer.compare(own, chain) !== 0) return false
    this.told = Math.max(this.told, Math.min(confirmed, position))
    return true
  }

  private check(voter: string, claim: Claim): boolean {
    const isSame = this.hear(claim)
    if (isSame === true && claim.position > this.reach(voter)) this.proven.set(voter, claim.position)
    // Too old to know: it proves nothing, neither way.
    return isSame !== false
  }

  private keep(voter: string, claim: Claim): void {
    const claims = this.ahead.get(voter) ?? []
    const last = claims.at(-1)
    if (last !== undefined && last.position >= claim.position) return
    // The newest replaces the one before it: this node is far behind, and the oldest are what it will reach first.
    if (claims.length === maxClaimsAhead) claims.pop()
    claims.push(claim)
    this.ahead.set(voter, claims)
  }
}
