import type { Catalog } from '../../contract/catalog.ts'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { LockFence, LockSighting } from '../../contract/locks.ts'

export interface RegionLockOptions {
  readonly catalog: Pick<Catalog, 'lock' | 'submit'>
  readonly name: string
  /** This node. It owns no lock twice: of the same name is only a process of it that has ended. */
  readonly owner: string
  readonly clock: Clock
  /** An owner that has not renewed for so long, as whoever waits sees it, is taken for gone. */
  readonly leaseMs?: number
}

const usualLeaseMs = 30_000

/**
 * One lock of the region, from one node's side. `hold` is asked before each piece of work that only one node may do: it takes the lock,
 * keeps it alive, or says that somebody else has it. Who forgets to ask loses it, and what it then still does is refused by its token.
 */
export class RegionLock {
  readonly #options: RegionLockOptions
  readonly #leaseMs: number
  /** What this process holds. */
  #own: (LockSighting & { readonly renewedAtMs: number }) | undefined
  /** What somebody else holds, and since when it has looked the same from here. */
  #seen: (LockSighting & { readonly sinceMs: number }) | undefined
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: RegionLockOptions) {
    this.#options = options
    this.#leaseMs = options.leaseMs ?? usualLeaseMs
  }

  /** The fence for what is done now; undefined: somebody else has the lock. UNAVAILABLE when the catalog takes no entry. */
  hold(): Promise<LockFence | undefined> {
    return this.#inTurn(() => this.#hold())
  }

  /** Others need not wait until the lease ends. */
  release(): Promise<void> {
    return this.#inTurn(async () => {
      const { catalog, name } = this.#options
      const own = this.#own
      this.#own = undefined
      if (own !== undefined) await catalog.submit({ type: 'release-lock', name, token: own.token })
    })
  }

  async #hold(): Promise<LockFence | undefined> {
    const { catalog, name, owner, clock } = this.#options
    const lock = catalog.lock(name)
    const nowMs = clock.monotonic()
    if (this.#own !== undefined && lock?.token !== this.#own.token) this.#own = undefined
    if (this.#own !== undefined) {
      const { token, renewedAtMs } = this.#own
      if (nowMs - renewedAtMs < this.#leaseMs / 3) return { name, token }
      return this.#take({ type: 'renew-lock', name, token }, nowMs)
    }
    if (lock === undefined) return this.#take({ type: 'acquire-lock', name, owner }, nowMs)
    const { token, renewed } = lock
    if (this.#seen?.token !== token || this.#seen.renewed !== renewed) {
      this.#seen = { token, renewed, sinceMs: nowMs }
    }
    // This node's own of before: that process has ended, or this one could not have opened the catalog.
    const isGone = lock.owner === owner || nowMs - this.#seen.sinceMs >= this.#leaseMs
    if (!isGone) return undefined
    return this.#take({ type: 'acquire-lock', name, owner, instead: { token, renewed } }, nowMs)
  }

  async #take(
    command: Extract<Parameters<Catalog['submit']>[0], { type: 'acquire-lock' | 'renew-lock' }>,
    askedMs: number,
  ): Promise<LockFence | undefined> {
    const { catalog, name } = this.#options
    try {
      const { token, renewed } = await catalog.submit(command)
      // As of the asking: the others may have seen it by then, and not later than now.
      this.#own = { token, renewed, renewedAtMs: askedMs }
      return { name, token }
    } catch (reason) {
      const error = StorageError.from(reason)
      if (error.code !== 'CONFLICT') throw error
      this.#own = undefined
      return undefined
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#last.then(work, work)
    this.#last = next.catch(() => undefined)
    return next
  }
}
