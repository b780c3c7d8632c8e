import { useEffect, useState } from 'preact/hooks'
import { webEnvironment } from '../../../sdk/client/environment.ts'
import { objects, sentence } from './node.ts'

export interface Upload {
  readonly id: number
  readonly bucket: string
  readonly key: string
  readonly total: number
  readonly loaded: number
  readonly bytesPerSecond: number
  readonly state: 'waiting' | 'running' | 'done' | 'failed' | 'stopped'
  readonly error: string | undefined
}

/** Parts on their way at the same time: a browser has six connections, and the page needs one or two. */
const parallelParts = 3
const partSize = 8 * 1024 * 1024

interface Job {
  readonly file: File
  readonly abort: AbortController
  /** What the node has of it, to go on from there. */
  token: string | undefined
}

/**
 * Files one after the other, each in parts. They belong to the page as a whole: whoever looks at another folder meanwhile stops
 * none of them. What has arrived of one that fails is kept, so that it goes on from there when it is tried again.
 */
class UploadQueue {
  #uploads: readonly Upload[] = []
  readonly #jobs = new Map<number, Job>()
  readonly #waiting: number[] = []
  readonly #listeners = new Set<() => void>()
  #running: Promise<void> | undefined
  #next = 1
  #owner = ''

  get uploads(): readonly Upload[] {
    return this.#uploads
  }

  get isBusy(): boolean {
    return this.#running !== undefined
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  add(bucket: string, prefix: string, files: readonly File[]): void {
    const added = files.map((file): Upload => {
      const id = this.#next++
      this.#jobs.set(id, { file, abort: new AbortController(), token: undefined })
      this.#waiting.push(id)
      return {
        ...{ id, bucket, key: `${prefix}${file.name}`, total: file.size, loaded: 0, bytesPerSecond: 0 },
        ...{ state: 'waiting', error: undefined },
      }
    })
    this.#tell([...this.#uploads, ...added])
    this.#start()
  }

  /** Nothing of it is kept. */
  stop(id: number): void {
    const job = this.#jobs.get(id)
    if (job === undefined) return
    const hadFailed = this.#uploads.some((upload) => upload.id === id && upload.state === 'failed')
    this.#jobs.delete(id)
    job.abort.abort()
    this.#change(id, { state: 'stopped', error: undefined })
    // One that runs is taken back by the SDK; of one that had failed nobody else thinks.
    if (hadFailed && job.token !== undefined) objects.abortUpload(job.token).catch(() => undefined)
  }

  again(id: number): void {
    if (!this.#jobs.has(id)) return
    this.#waiting.push(id)
    this.#change(id, { state: 'waiting', error: undefined })
    this.#start()
  }

  /** What has ended goes off the list. */
  clear(): void {
    const isOver = ({ state }: Upload): boolean => state === 'done' || state === 'stopped'
    this.#tell(this.#uploads.filter((upload) => !isOver(upload)))
  }

  /** Whose session it is: what somebody else has begun is neither shown nor continued. */
  belongTo(accessKeyId: string): void {
    if (this.#owner !== accessKeyId && this.#owner !== '') void this.end()
    this.#owner = accessKeyId
  }

  /** Before a log-out: all that is not done is taken back. */
  async end(): Promise<void> {
    for (const id of this.#jobs.keys()) this.stop(id)
    this.#waiting.length = 0
    this.#tell([])
    await this.#running
  }

  #start(): void {
    this.#running ??= this.#work().finally(() => {
      this.#running = undefined
    })
  }

  async #work(): Promise<void> {
    for (let id = this.#waiting.shift(); id !== undefined; id = this.#waiting.shift()) await this.#send(id)
  }

  async #send(id: number): Promise<void> {
    const job = this.#jobs.get(id)
    const upload = this.#uploads.find((each) => each.id === id)
    if (job === undefined || upload === undefined) return
    this.#change(id, { state: 'running' })
    const beganMs = webEnvironment.monotonic()
    try {
      await objects.put(upload.bucket, upload.key, job.file, {
        ...{ partSize, parallel: parallelParts, signal: job.abort.signal },
        onUpload: (token) => {
          job.token = token
        },
        onProgress: ({ loaded }) => {
          const seconds = (webEnvironment.monotonic() - beganMs) / 1000
          this.#change(id, { loaded, bytesPerSecond: loaded / Math.max(0.01, seconds) })
        },
        ...(job.token === undefined ? {} : { resume: job.token }),
      })
      this.#jobs.delete(id)
      this.#change(id, { state: 'done', loaded: job.file.size })
    } catch (error) {
      if (!job.abort.signal.aborted) this.#change(id, { state: 'failed', error: sentence(error) })
    }
  }

  #change(id: number, to: Partial<Upload>): void {
    this.#tell(this.#uploads.map((upload) => (upload.id === id ? { ...upload, ...to } : upload)))
  }

  #tell(uploads: readonly Upload[]): void {
    this.#uploads = uploads
    for (const listener of this.#listeners) listener()
  }
}

export const uploadQueue: UploadQueue = new UploadQueue()

// Leaving the page ends what is on its way: the browser asks before.
addEventListener('beforeunload', (event) => {
  if (uploadQueue.isBusy) event.preventDefault()
})

/** The uploads as they are, in any page; `onDone` is called when one has ended well. */
export function useUploads(onDone: () => void): readonly Upload[] {
  const [uploads, setUploads] = useState(uploadQueue.uploads)
  useEffect(() => {
    let done = countDone(uploadQueue.uploads)
    return uploadQueue.onChange(() => {
      setUploads(uploadQueue.uploads)
      const nowDone = countDone(uploadQueue.uploads)
      if (nowDone > done) onDone()
      done = nowDone
    })
  }, [onDone])
  return uploads
}

const countDone = (uploads: readonly Upload[]): number =>
  uploads.filter(({ state }) => state === 'done').length
