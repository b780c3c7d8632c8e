import { Worker } from 'node:worker_threads'
import { isErrorCode, StorageError } from '../../contract/errors.ts'
import type { FromReplicaWriter, ReplicaWriterSettings, ToReplicaWriter } from './replica-writer-protocol.ts'

type Done = Extract<FromReplicaWriter, { type: 'done' }>

interface Question {
  resolve(answer: Done): void
  reject(error: StorageError): void
}

/** The owner's side of a replica's writer thread. When the thread dies everything asked and everything later is rejected. */
export class ReplicaWriter {
  private readonly worker: Worker
  private readonly questions: Question[] = []
  private readonly ended: Promise<void>
  private failure: StorageError | undefined

  constructor(settings: ReplicaWriterSettings) {
    this.worker = new Worker(new URL('./replica-writer-thread.js', import.meta.url), { workerData: settings })
    this.worker.on('message', (answer: FromReplicaWriter) => {
      if (answer.type === 'done') this.questions.shift()?.resolve(answer)
      else {
        const code = isErrorCode(answer.code) ? answer.code : 'INTERNAL'
        this.fail(new StorageError(code, `the writer of the catalog failed: ${answer.reason}`))
      }
    })
    this.worker.on('error', (error) => this.fail(StorageError.from(error, 'UNAVAILABLE')))
    this.ended = new Promise((resolve) => {
      this.worker.on('exit', () => {
        this.fail(new StorageError('UNAVAILABLE', 'the writer of the catalog has ended'))
        resolve()
      })
    })
  }

  ask(message: ToReplicaWriter, transfer: ArrayBuffer[] = []): Promise<Done> {
    if (this.failure !== undefined) return Promise.reject(this.failure)
    return new Promise((resolve, reject) => {
      this.questions.push({ resolve, reject })
      this.worker.postMessage(message, transfer)
    })
  }

  /** Everything asked before is answered first. */
  async close(): Promise<void> {
    await this.ask({ type: 'close' }).catch(() => undefined)
    await this.ended
  }

  private fail(error: StorageError): void {
    this.failure ??= error
    for (const question of this.questions.splice(0)) question.reject(error)
  }
}
