import { type LinkClass, linkClasses } from '../../core/contract/tunnel.ts'

/** Of what a link carries beside the urgent classes, which have no weight: they go first. */
const weights: Readonly<Record<Exclude<LinkClass, UrgentClass>, number>> = {
  log: 64,
  read: 16,
  bulk: 4,
  'full-sync': 1,
}

type UrgentClass = 'control' | 'failover'

/** Small by their nature, so that nobody is held up by them for long. */
export const isUrgent = (linkClass: LinkClass): linkClass is UrgentClass =>
  linkClass === 'control' || linkClass === 'failover'

/** Of any size. */
export const isBody = (linkClass: LinkClass): boolean => linkClass !== 'log' && !isUrgent(linkClass)

interface Line<T> {
  readonly linkClass: LinkClass
  /** Undefined: goes first. */
  readonly weight: number | undefined
  readonly waiting: T[]
  /** Virtual time at which the bytes that it has had would have left by its weight alone. */
  had: number
}

/**
 * Who of those that wait for a link is next: start-time fair queueing over classes (Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM
 * 1996), first come first served within one. A class that was idle claims nothing for that time, and none is starved.
 */
export class ClassOrder<T> {
  readonly #lines: readonly Line<T>[] = linkClasses.map((linkClass) => ({
    linkClass,
    weight: isUrgent(linkClass) ? undefined : weights[linkClass],
    waiting: [],
    had: 0,
  }))
  #now = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  push(linkClass: LinkClass, item: T): void {
    const line = this.#lineOf(linkClass)
    if (line.waiting.length === 0) line.had = Math.max(line.had, this.#now)
    line.waiting.push(item)
    this.#size++
  }

  /** One that was taken, and has not had its turn: it comes first of its class again. */
  putBack(linkClass: LinkClass, item: T): void {
    this.#lineOf(linkClass).waiting.unshift(item)
    this.#size++
  }

  next(): T | undefined {
    let best: Line<T> | undefined
    for (const line of this.#lines) {
      if (line.waiting.length === 0) continue
      if (line.weight === undefined) {
        best = line
        break
      }
      if (best === undefined || line.had < best.had) best = line
    }
    const item = best?.waiting.shift()
    if (best === undefined || item === undefined) return undefined
    this.#size--
    if (best.weight !== undefined) this.#now = Math.max(this.#now, best.had)
    return item
  }

  /** What one of the class has sent. */
  charge(linkClass: LinkClass, byteLength: number): void {
    const line = this.#lineOf(linkClass)
    if (line.weight !== undefined) line.had += byteLength / line.weight
  }

  clear(): T[] {
    this.#size = 0
    return this.#lines.flatMap(({ waiting }) => waiting.splice(0))
  }

  #lineOf(linkClass: LinkClass): Line<T> {
    const line = this.#lines[linkClasses.indexOf(linkClass)]
    if (line === undefined) throw new RangeError(`no class '${linkClass}'`)
    return line
  }
}
