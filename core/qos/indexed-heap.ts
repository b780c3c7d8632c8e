/** What a heap needs to know where an element is. Every element is in at most one heap; -1 = in none. */
export interface HeapElement {
  heapIndex: number
}

/** A binary heap that can take any of its elements out again in O(log n): whoever leaves a queue leaves nothing behind. */
export class IndexedHeap<T extends HeapElement> {
  readonly #elements: T[] = []
  readonly #before: (left: T, right: T) => boolean

  constructor(before: (left: T, right: T) => boolean) {
    this.#before = before
  }

  get size(): number {
    return this.#elements.length
  }

  peek(): T | undefined {
    return this.#elements[0]
  }

  /** One of those that would come late. */
  last(): T | undefined {
    return this.#elements.at(-1)
  }

  push(element: T): void {
    element.heapIndex = this.#elements.length
    this.#elements.push(element)
    this.#up(element)
  }

  pop(): T | undefined {
    const first = this.#elements[0]
    if (first !== undefined) this.remove(first)
    return first
  }

  /** REQUIRES: the element is in this heap. */
  remove(element: T): void {
    const index = element.heapIndex
    const last = this.#elements.pop()
    element.heapIndex = -1
    if (last === undefined || last === element) return
    this.#elements[index] = last
    last.heapIndex = index
    this.update(last)
  }

  /** The order of the element has changed. */
  update(element: T): void {
    this.#up(element)
    this.#down(element)
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#elements[Symbol.iterator]()
  }

  #up(element: T): void {
    while (element.heapIndex > 0) {
      const parent = this.#elements[(element.heapIndex - 1) >> 1]
      if (parent === undefined || !this.#before(element, parent)) return
      this.#swap(parent, element)
    }
  }

  #down(element: T): void {
    for (;;) {
      const left = this.#elements[element.heapIndex * 2 + 1]
      if (left === undefined) return
      const right = this.#elements[element.heapIndex * 2 + 2]
      const child = right !== undefined && this.#before(right, left) ? right : left
      if (!this.#before(child, element)) return
      this.#swap(element, child)
    }
  }

  #swap(parent: T, child: T): void {
    const index = parent.heapIndex
    parent.heapIndex = child.heapIndex
    child.heapIndex = index
    this.#elements[parent.heapIndex] = parent
    this.#elements[index] = child
  }
}
