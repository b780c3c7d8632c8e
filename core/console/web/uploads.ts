import { useCallback, useRef, useState } from 'preact/hooks'
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

interface Waiting {
  readonly id: number
  readonly bucket: string
  readonly key: string
  readonly file: File
  readonly abort: AbortController
}

/** Files one after the other, each in parts: what has arrived of one that fails is taken back by the SDK. */
export function useUploads(onDone: () => void) {
  const [uploads, setUploads] = useState<readonly Upload[]>([])
  const queue = useRef<Waiting[]>([])
  const controllers = useRef(new Map<number, AbortController>())
  const isRunning = useRef(false)
  const next = useRef(1)
  const change = useCallback((id: number, to: Partial<Upload>) => {
    setUploads((before) => before.map((upload) => (upload.id === id ? { ...upload, ...to } : upload)))
  }, [])

  const work = useCallback(async () => {
    if (isRunning.current) return
    isRunning.current = true
    for (let upload = queue.current.shift(); upload !== undefined; upload = queue.current.shift()) {
      const { id, bucket, key, file, abort } = upload
      if (abort.signal.aborted) continue
      change(id, { state: 'running' })
      const beganMs = webEnvironment.monotonic()
      try {
        await objects.put(bucket, key, file, {
          partSize,
          parallel: parallelParts,
          signal: abort.signal,
          onProgress: ({ loaded }) => {
            const seconds = (webEnvironment.monotonic() - beganMs) / 1000
            change(id, { loaded, bytesPerSecond: loaded / Math.max(0.01, seconds) })
          },
        })
        change(id, { state: 'done', loaded: file.size })
        onDone()
      } catch (error) {
        if (abort.signal.aborted) change(id, { state: 'stopped' })
        else change(id, { state: 'failed', error: sentence(error) })
      }
      controllers.current.delete(id)
    }
    isRunning.current = false
  }, [change, onDone])

  const add = useCallback(
    (bucket: string, prefix: string, files: readonly File[]) => {
      for (const file of files) {
        const id = next.current++
        const abort = new AbortController()
        controllers.current.set(id, abort)
        const key = `${prefix}${file.name}`
        queue.current.push({ id, bucket, key, file, abort })
        const upload: Upload = {
          ...{ id, bucket, key, total: file.size, loaded: 0, bytesPerSecond: 0 },
          state: 'waiting',
          error: undefined,
        }
        setUploads((before) => [...before, upload])
      }
      void work()
    },
    [work],
  )
  const stop = useCallback(
    (id: number) => {
      controllers.current.get(id)?.abort()
      change(id, { state: 'stopped' })
    },
    [change],
  )
  const clear = useCallback(() => {
    setUploads((before) => before.filter(({ state }) => state === 'waiting' || state === 'running'))
  }, [])
  return { uploads, add, stop, clear }
}
