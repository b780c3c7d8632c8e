import { statfs } from 'node:fs/promises'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Position } from '../../contract/ordered-log.ts'
import { ReplicaWriter } from './replica-writer.ts'
import type { ReplicaWriterSettings, ToReplicaWriter } from './replica-writer-protocol.ts'

type Done = Awaited<ReturnType<ReplicaWriter['ask']>>
type Change = Extract<ToReplicaWriter, { type: 'change' }>

export interface PatientWriterOptions {
  readonly settings: ReplicaWriterSettings
  readonly clock: Clock
  /** Why a change waits; undefined: it waits no more. */
  readonly onWait: (reason: string | undefined) => void
}

/** How often a full device is looked at. */
const lookMs = 500
/** With less nothing is tried: pages of a small commit, and a file that grows by more than it needs. */
const leastRoomBytes = 4 * 1024 * 1024

/**
 * A replica's writer that outlives a full device. What did not fit has changed nothing, for it was one transaction; LMDB's state in
 * memory may no longer be trusted, so the thread has ended, and another one does it once there is room. Meanwhile the node has all
 * that it had: it answers how far it is, and promises nothing.
 */
export class PatientWriter {
  private readonly options: PatientWriterOptions
  private readonly closing = new AbortController()
  private writer: ReplicaWriter
  private isWaiting = false

  constructor(options: PatientWriterOptions) {
    this.options = options
    this.writer = new ReplicaWriter(options.settings)
  }

  ask(message: ToReplicaWriter, transfer: ArrayBuffer[] = []): Promise<Done> {
    return this.writer.ask(message, transfer)
  }

  /**
   * `make` gives the change anew for each attempt: its bytes go to the thread. `at`: where the rows are before it, and must still be when
   * it is tried again. CLOSED when it is given up.
   */
  async change(
    make: () => Change,
    at: { readonly position: Position; readonly chain: Uint8Array },
  ): Promise<Done> {
    for (;;) {
      try {
        const change = make()
        const done = await this.writer.ask(change, [change.entries])
        this.wait(undefined)
        return done
      } catch (reason) {
        const error = StorageError.from(reason)
        if (error.code !== 'INSUFFICIENT_STORAGE') throw error
        this.wait(error.reason)
        await this.reopen(at)
      }
    }
  }

  /** Whoever waits for room gets CLOSED. */
  giveUp(): void {
    this.closing.abort(new StorageError('CLOSED', 'the catalog is closed'))
  }

  async close(): Promise<void> {
    this.giveUp()
    await this.writer.close()
  }

  private async reopen(at: { readonly position: Position; readonly chain: Uint8Array }): Promise<void> {
    const { settings, clock } = this.options
    await this.writer.close()
    for (;;) {
      await clock.sleep(lookMs, this.closing.signal).catch(() => undefined)
      this.closing.signal.throwIfAborted()
      const { bavail, bsize } = await statfs(settings.directory)
      if (bavail * bsize < leastRoomBytes) continue
      const writer = new ReplicaWriter(settings)
      const place = await writer.ask({ type: 'place' }).catch(() => undefined)
      if (place === undefined) {
        await writer.close()
        continue
      }
      this.writer = writer
      const { position, chain } = place.state
      if (position === at.position && Buffer.compare(chain, at.chain) === 0) return
      throw new StorageError(
        'CATALOG_CORRUPT',
        `the rows are at ${position} after a change of those at ${at.position} that failed`,
      )
    }
  }

  private wait(reason: string | undefined): void {
    if (reason === undefined && !this.isWaiting) return
    this.isWaiting = reason !== undefined
    this.options.onWait(reason)
  }
}
