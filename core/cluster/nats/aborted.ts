/** The promise, or the reason of the first signal that aborts. What the promise comes to afterwards is not told. */
export async function untilAborted<T>(
  promise: Promise<T>,
  signals: readonly (AbortSignal | undefined)[],
): Promise<T> {
  const given = signals.filter((signal) => signal !== undefined)
  let onAbort: (() => void) | undefined
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      const signal = given.find(({ aborted }) => aborted)
      if (signal !== undefined) reject(signal.reason)
    }
  })
  promise.catch(() => {})
  for (const signal of given)
    if (onAbort !== undefined) signal.addEventListener('abort', onAbort, { once: true })
  onAbort?.()
  try {
    return await Promise.race([promise, aborted])
  } finally {
    for (const signal of given) if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}
