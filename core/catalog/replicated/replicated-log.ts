import { StorageError } from '../../contract/errors.ts'
import type { SubmitWatch } from '../../contract/trace.ts'
import { Barrier, type ReadScope } from './barrier.ts'
import { Publisher, type PublisherPace } from './publisher.ts'
import { Replica } from './replica.ts'
import type { ReplicaOptions } from './replica-options.ts'
import { type Acknowledged, type SubmissionLimits, Submissions } from './submissions.ts'

export interface ReplicatedLogOptions
  extends Omit<ReplicaOptions, 'onApplied' | 'onBranch' | 'onPublishable'> {
  readonly limits: SubmissionLimits
  readonly publisher?: Partial<PublisherPace>
}

/** A replica with what its own node submits and reads: everything of the replicated catalog but its rows. */
export interface ReplicatedLog {
  readonly replica: Replica
  readonly pendingEntries: number
  /** UNAVAILABLE after the deadline: it may have happened, or may happen yet. */
  submit(session: Uint8Array, sequence: number, entry: Uint8Array, watch?: SubmitWatch): Promise<Acknowledged>
  barrier(scope?: ReadScope): Promise<void>
  /** That what is here is a state which the region was in, and not one that is being replaced. UNAVAILABLE. */
  readable(): Promise<void>
  close(): Promise<void>
}

export function startReplicatedLog(options: ReplicatedLogOptions): ReplicatedLog {
  const { store } = options
  const submissions = new Submissions(options.environment.clock, options.limits, () => publisher.pump())
  const replica = new Replica({
    ...options,
    onApplied: (entries) => submissions.noteApplied(entries),
    onBranch() {
      submissions.review(store.position, (session, sequence) => store.answerOf(session, sequence))
      submissions.noteShown(replica.shown)
    },
    onPublishable: () => publisher.pump(),
    onShown(position) {
      options.onShown(position)
      submissions.noteShown(position)
    },
    onFailure(error) {
      submissions.fail(error)
      options.onFailure(error)
    },
  })
  const publisher = new Publisher(replica, submissions, options.publisher)
  const barrier = new Barrier(replica)
  const maxEntryBytes = options.streams.maxRecordBytes - 1024
  replica.start()
  return {
    replica,
    get pendingEntries() {
      return submissions.size
    },
    submit(session, sequence, entry, watch) {
      if (entry.length > maxEntryBytes) {
        const reason = `an entry of the region's log has at most ${maxEntryBytes} bytes`
        return Promise.reject(new StorageError('INVALID_ARGUMENT', reason))
      }
      return submissions.submit(session, sequence, entry, watch)
    },
    barrier: (scope) => barrier.wait(scope),
    readable: () => barrier.readable(),
    async close() {
      submissions.fail(new StorageError('CLOSED', 'the catalog is closed'))
      await replica.close()
    },
  }
}
