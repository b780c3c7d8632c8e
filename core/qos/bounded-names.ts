/** What is kept for a name. */
export interface NamedState {
  /** Forgetting it now would change nothing that anybody could notice. */
  isIdle(nowMs: number): boolean
}

interface Slot<T> {
  readonly state: T
  used: boolean
}

/**
 * State by name, for at most so many names: the second-chance clock (Corbató 1968) on the order of a Map. Names come from
 * requests, so this is what keeps strangers from filling the memory. State in use is passed over; when all that is looked at
 * is in use, the one that was not asked for lately goes (with its debts), because the bound comes first.
 */
export class BoundedNames<T extends NamedState> {
  readonly #slots = new Map<string, Slot<T>>()
  readonly #limit: number
  readonly #make: (name: string) => T

  constructor(limit: number, make: (name: string) => T) {
    this.#limit = limit
    this.#make = make
  }

  get size(): number {
    return this.#slots.size
  }

  get(name: string, nowMs: number): T {
    const slot = this.#slots.get(name)
    if (slot !== undefined) {
      slot.used = true
      return slot.state
    }
    if (this.#slots.size >= this.#limit) this.#evict(nowMs)
    const state = this.#make(name)
    this.#slots.set(name, { state, used: false })
    return state
  }

  *states(): Generator<T> {
    for (const { state } of this.#slots.values()) yield state
  }

  #evict(nowMs: number): void {
    let fallback: string | undefined
    let looked = 0
    for (const [name, slot] of this.#slots) {
      if (++looked > maxLooks) break
      if (!slot.used && slot.state.isIdle(nowMs)) {
        this.#slots.delete(name)
        return
      }
      if (!slot.used) fallback ??= name
      slot.used = false
      this.#slots.delete(name)
      this.#slots.set(name, slot)
    }
    const victim = fallback ?? this.#slots.keys().next().value
    if (victim !== undefined) this.#slots.delete(victim)
  }
}

const maxLooks = 32
