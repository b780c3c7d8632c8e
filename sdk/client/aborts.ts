/** Waits for what does not listen to signals itself: sources and providers of the application. */

/**
 * What becomes of the work, or a rejection with the signal's reason as soon as it is aborted. The work is not ended by that; what becomes of
 * it later is nobody's concern.
 */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
    if (signal.aborted) onAbort()
  })
}

/** The items until the signal is aborted, which rejects with its reason. */
export async function* untilAborted<T>(
  items: Iterable<T> | AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]()
  let isDone = false
  try {
    for (;;) {
      const next = await unlessAborted(Promise.resolve(iterator.next()), signal)
      isDone = next.done === true
      if (next.done === true) return
      yield next.value
    }
  } finally {
    if (!isDone) endIteration(iterator)
  }
}

/** Tells an iterator that no more is wanted, and does not wait: a generator that itself waits for something hears it only after that. */
export function endIteration(iterator: Iterator<unknown> | AsyncIterator<unknown>): void {
  const end = async (): Promise<void> => {
    await iterator.return?.()
  }
  // A source that fails while it is told to stop changes nothing any more.
  end().catch(() => {})
}
