/** What a question told, and its place among all that this process has begun: a greater one was asked later. */
export interface Numbered<T> {
  readonly number: number
  readonly told: T
}

interface Line<T> {
  now: Promise<Numbered<T>>
  /** Not begun: it begins when `now` is over. */
  next: Promise<Numbered<T>> | undefined
}

const ignore = (): void => undefined

/**
 * Questions to other regions. Whoever asks gets the answer to a question that begins no earlier than he asks: an older one may have been
 * answered before what he has seen. Those who ask the same while one is on its way share the next, so a name never has more
 * than one on its way.
 */
export class Questions<T> {
  readonly #most: number
  readonly #refuse: () => Error
  readonly #lines = new Map<string, Line<T>>()
  #begun = 0

  /** @param most names that are asked for at once; `refuse` makes the error for all others */
  constructor(most: number, refuse: () => Error) {
    this.#most = most
    this.#refuse = refuse
  }

  ask(name: string, question: () => Promise<T>): Promise<Numbered<T>> {
    const line = this.#lines.get(name)
    if (line === undefined) {
      if (this.#lines.size >= this.#most) throw this.#refuse()
      return this.#begin(name, question)
    }
    if (line.next === undefined) {
      line.next = line.now.then(ignore, ignore).then(() => this.#begin(name, question, line))
      line.next.catch(ignore)
    }
    return line.next
  }

  #begin(name: string, question: () => Promise<T>, known?: Line<T>): Promise<Numbered<T>> {
    const number = ++this.#begun
    const now = question()
      .then((told) => ({ number, told }))
      .finally(() => {
        if (line.next === undefined) this.#lines.delete(name)
      })
    // Who asked may have left.
    now.catch(ignore)
    const line: Line<T> = known ?? { now, next: undefined }
    line.now = now
    line.next = undefined
    this.#lines.set(name, line)
    return now
  }
}
