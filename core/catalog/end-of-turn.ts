/** Resolves when all that has come in has been begun: behind the turn of the event loop in which its first caller calls. */
export const endOfTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** The same, shared by all who call in one turn. */
export function sharedEndOfTurn(): () => Promise<void> {
  let ending: Promise<void> | undefined
  return () => {
    ending ??= endOfTurn().then(() => {
      ending = undefined
    })
    return ending
  }
}
