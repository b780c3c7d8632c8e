import { useEffect, useState } from 'preact/hooks'
import { webEnvironment } from '../../../sdk/client/environment.ts'
import { readToken } from '../../../sdk/client/upload-token.ts'
import { sentence } from './errors.ts'
import {
  claimUpload,
  type FoundUpload,
  forgetUpload,
  keepUpload,
  keptUploads,
  onKept,
} from './kept-uploads.ts'
import { objects, objectsAs } from './node.ts'
import { count, moment } from './text.ts'

export interface Upload {
  readonly id: number
  readonly bucket: string
  readonly key: string
  readonly total: number
  readonly loaded: number
  readonly bytesPerSecond: number
  /** `cut`: the page that sent it is gone, and its file has to be chosen again. */
  readonly state: 'waiting' | 'running' | 'done' | 'failed' | 'stopped' | 'cut'
  readonly error: string | undefined
}

/** Parts on their way at the same time: a browser has six connections, and the page needs one or two. */
const parallelParts = 3
const partSize = 8 * 1024 * 1024

/** How long taking back may take before a log-out goes on. */
const giveUpMs = 5_000

/** The file of an upload that was cut off is what a person chooses again; a page may not open it by itself. */
type FileName = Pick<File, 'name' | 'size' | 'lastModified'>

interface Job {
  readonly wanted: FileName
  file: File | undefined
  readonly abort: AbortController
  /** What the node has of it, to go on from there. */
  token: string | undefined
}

/**
 * Files one after the other, each in parts. They belong to the page as a whole: whoever looks at another folder meanwhile stops
 * none of them. What has arrived of one that fails is kept, so that it goes on from there when it is tried again; so is what has arrived
 * of one whose page is closed or read anew, which goes on in another page when its file is chosen again.
 */
class UploadQueue {
  #uploads: readonly Upload[] = []
  readonly #jobs = new Map<number, Job>()
  readonly #waiting: number[] = []
  readonly #listeners = new Set<() => void>()
  /** Lets go of an upload that is kept, or of the wait for it, by its id at the node. */
  readonly #claims = new Map<string, () => void>()
  #running: Promise<void> | undefined
  #next = 1
  #owner = ''
  /** As the owner: what a log-in elsewhere in the browser has made somebody else's session touches nothing of it. */
  #objects = objects

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

  /** What is the file of an upload that was cut off goes on; all else begins. */
  add(bucket: string, prefix: string, files: readonly File[]): void {
    const added = files.flatMap((file): readonly Upload[] => {
      const key = `${prefix}${file.name}`
      const cut = this.#uploads.find(
        (each) => each.state === 'cut' && each.bucket === bucket && each.key === key,
      )
      const job = cut === undefined ? undefined : this.#jobs.get(cut.id)
      if (cut !== undefined && job !== undefined && differenceOf(job.wanted, file) === undefined) {
        this.resume(cut.id, file)
        return []
      }
      return [this.#wait(bucket, key, { wanted: file, file, abort: new AbortController(), token: undefined })]
    })
    this.#tell([...this.#uploads, ...added])
    this.#start()
  }

  #wait(bucket: string, key: string, job: Job): Upload {
    const id = this.#next++
    this.#jobs.set(id, job)
    if (job.file !== undefined) this.#waiting.push(id)
    return {
      ...{ id, bucket, key, total: job.wanted.size, loaded: 0, bytesPerSecond: 0, error: undefined },
      state: job.file === undefined ? 'cut' : 'waiting',
    }
  }

  /** One that was cut off goes on with its file; another file is refused in words. */
  resume(id: number, file: File): void {
    const job = this.#jobs.get(id)
    if (job === undefined) return
    const error = differenceOf(job.wanted, file)
    if (error === undefined) {
      job.file = file
      this.again(id)
    } else this.#change(id, { error })
  }

  /** Nothing of it is kept. Resolves when the node has been told, or cannot be: then it is there still, and says so. */
  async stop(id: number): Promise<void> {
    const job = this.#jobs.get(id)
    if (job === undefined) return
    this.#jobs.delete(id)
    job.abort.abort()
    this.#change(id, { state: 'stopped', error: undefined })
    if (job.token === undefined) return
    try {
      // The SDK takes back what is being sent. Of one that does not run, or is about to go on, nobody else thinks.
      await this.#objects.abortUpload(job.token, { deadlineMs: giveUpMs })
      this.#letGo(job)
    } catch (error) {
      if (!this.#uploads.some((upload) => upload.id === id))
        return this.#release(readToken(job.token).uploadId)
      this.#jobs.set(id, { ...job, abort: new AbortController() })
      this.#change(id, { state: job.file === undefined ? 'cut' : 'failed', error: sentence(error) })
    }
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
    if (this.#owner !== accessKeyId && this.#owner !== '') this.#drop()
    this.#owner = accessKeyId
    this.#objects = objectsAs(accessKeyId)
    this.findCut()
  }

  /** Looks for uploads that other pages have begun: those of pages that are gone come into the list, now or when they go. */
  findCut(): void {
    if (this.#owner === '') return
    for (const found of keptUploads(this.#owner)) {
      if (!this.#claims.has(found.upload.uploadId)) void this.#adopt(found)
    }
  }

  async #adopt({ upload, token, fileName, lastModifiedMs }: FoundUpload): Promise<void> {
    const { bucket, key, uploadId, size = 0 } = upload
    if (!(await this.#claim(uploadId))) return
    // Its own page may have ended it before it let it go.
    if (!keptUploads(this.#owner).some((each) => each.upload.uploadId === uploadId))
      return this.#release(uploadId)
    const wanted = { name: fileName, size, lastModified: lastModifiedMs }
    const job = { wanted, file: undefined, abort: new AbortController(), token }
    const cut = this.#wait(bucket, key, job)
    this.#tell([...this.#uploads, cut])
    // Of one that goes on meanwhile its own progress is newer; one that the node has no more begins anew when it goes on.
    const loaded = await this.#objects.uploadedBytes(token, { signal: job.abort.signal }).catch(() => 0)
    if (this.#uploads.some(({ id, state }) => id === cut.id && state === 'cut'))
      this.#change(cut.id, { loaded })
  }

  /** False: it was let go meanwhile. */
  async #claim(uploadId: string): Promise<boolean> {
    const wait = new AbortController()
    const giveUp = (): void => wait.abort()
    this.#claims.set(uploadId, giveUp)
    try {
      const release = await claimUpload(uploadId, wait.signal)
      if (this.#claims.get(uploadId) === giveUp) {
        this.#claims.set(uploadId, release)
        return true
      }
      release()
    } catch {
      // The wait is over: nobody wants it any more.
    }
    return false
  }

  #release(uploadId: string): void {
    this.#claims.get(uploadId)?.()
    this.#claims.delete(uploadId)
  }

  /** From now on it can be gone on with from another page. */
  async #keep(job: Job, token: string): Promise<void> {
    const { uploadId } = readToken(token)
    if (this.#claims.has(uploadId)) return
    if (!(await this.#claim(uploadId))) return
    const { name: fileName, lastModified: lastModifiedMs } = job.wanted
    keepUpload({
      ...{ accessKeyId: this.#owner, token, fileName, lastModifiedMs },
      begunMs: webEnvironment.now(),
    })
  }

  /** It is done, or given up: nobody is to go on with it. */
  #letGo({ token }: Job): void {
    if (token === undefined) return
    const { uploadId } = readToken(token)
    forgetUpload(uploadId)
    this.#release(uploadId)
  }

  /** Before a log-out: all that is not done is taken back. */
  async end(): Promise<void> {
    const stopped = [...this.#jobs.keys()].map((id) => this.stop(id))
    this.#waiting.length = 0
    this.#tell([])
    await Promise.all([...stopped, this.#running])
  }

  /** Somebody else has logged in: what is kept waits for its own owner. */
  #drop(): void {
    for (const { abort } of this.#jobs.values()) abort.abort()
    for (const uploadId of this.#claims.keys()) this.#release(uploadId)
    this.#jobs.clear()
    this.#waiting.length = 0
    this.#tell([])
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
    if (job?.file === undefined || upload === undefined) return
    this.#change(id, { state: 'running' })
    const beganMs = webEnvironment.monotonic()
    try {
      await this.#objects.put(upload.bucket, upload.key, job.file, {
        ...{ partSize, parallel: parallelParts, signal: job.abort.signal },
        onUpload: (token) => {
          // Another one than before: what the node had of that is gone.
          if (job.token !== undefined && job.token !== token) this.#letGo(job)
          job.token = token
          void this.#keep(job, token)
        },
        onProgress: ({ loaded }) => {
          const seconds = (webEnvironment.monotonic() - beganMs) / 1000
          this.#change(id, { loaded, bytesPerSecond: loaded / Math.max(0.01, seconds) })
        },
        ...(job.token === undefined ? {} : { resume: job.token }),
      })
      this.#jobs.delete(id)
      this.#letGo(job)
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

/** Why a file is not the one that an upload was begun with, in words; undefined: it is. */
function differenceOf(wanted: FileName, { name, size, lastModified }: FileName): string | undefined {
  if (name !== wanted.name) return `That is “${name}”. This upload goes on with “${wanted.name}”.`
  if (size !== wanted.size)
    return `That file has ${count(size)} bytes. The one that this upload was begun with had ${count(wanted.size)}.`
  if (lastModified !== wanted.lastModified)
    return `The file has been changed since: on ${moment(lastModified)}; the upload was begun with that of ${moment(wanted.lastModified)}. Give this up, and upload it as it is now.`
  return undefined
}

export const uploadQueue: UploadQueue = new UploadQueue()

onKept(() => uploadQueue.findCut())
// Leaving the page stops what is on its way: the browser asks before.
addEventListener('beforeunload', (event) => {
  if (uploadQueue.isBusy) event.preventDefault()
})

/** The uploads as they are, in any page; `onDone` is called when one has ended well. */
export function useUploads(onDone: () => void): readonly Upload[] {
  const [uploads, setUploads] = useState(uploadQueue.uploads)
  useEffect(() => {
    // What has changed since the page was drawn: nobody might tell of it again.
    setUploads(uploadQueue.uploads)
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
