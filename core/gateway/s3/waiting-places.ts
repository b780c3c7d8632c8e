import type { Identity } from './operation.ts'

/**
 * Places of requests that wait for something that is not this node's doing, and so hold no place among those that are served: a bounded
 * number of one gateway, and of one account, so that nobody takes its memory or keeps the others from waiting.
 */
export class WaitingPlaces {
  readonly #most: number
  readonly #mostOfOne: number
  readonly #taken = new Map<string, number>()
  #count = 0

  constructor(most: number, mostOfOne: number) {
    this.#most = most
    this.#mostOfOne = mostOfOne
  }

  hasRoom(account: string): boolean {
    return this.#count < this.#most && (this.#taken.get(account) ?? 0) < this.#mostOfOne
  }

  /** False: there is none. Otherwise it is to be freed once. */
  take(account: string): boolean {
    if (!this.hasRoom(account)) return false
    this.#count++
    this.#taken.set(account, (this.#taken.get(account) ?? 0) + 1)
    return true
  }

  free(account: string): void {
    this.#count--
    const left = (this.#taken.get(account) ?? 1) - 1
    if (left === 0) this.#taken.delete(account)
    else this.#taken.set(account, left)
  }
}

/** Strangers together are one account. */
export const waitingAccount = (identity: Identity): string =>
  identity.kind === 'key' ? identity.account : ''
