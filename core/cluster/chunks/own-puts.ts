import { StorageError } from '../../contract/errors.ts'

/** Why a copy slower than its quorum is cancelled. One for all: each would make a stack that nobody reads. */
export const slowerThanQuorum = new StorageError(
  'CANCELLED',
  'the copy was given up: it took much longer than its quorum',
)

/**
 * Copies in the gateway's own store. A put there cannot be cancelled, and its buffer must not be used for anything else while the device
 * may read it. So when one has been given up as slower than its quorum, no other one begins until it has settled: a disk that hangs keeps
 * what it had been given until then, and no more.
 */
export class OwnPuts {
  /** Given up, and not settled. */
  #overdue = 0

  /** UNAVAILABLE at once while one that was given up has not settled; CANCELLED when the signal has aborted before it begins. */
  async put(write: () => Promise<void>, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw slowerThanQuorum
    if (this.#overdue > 0) {
      throw new StorageError('UNAVAILABLE', 'its store has not finished copies that took too long')
    }
    let isOverdue = false
    const onAbort = (): void => {
      // Of a write that begins again by a newer map nothing is known about the device.
      if (signal.reason !== slowerThanQuorum) return
      isOverdue = true
      this.#overdue++
    }
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      await write()
    } finally {
      signal.removeEventListener('abort', onAbort)
      if (isOverdue) this.#overdue--
    }
  }
}
