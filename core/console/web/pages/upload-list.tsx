import { useRef } from 'preact/hooks'
import { Card, Failure } from '../parts/frame.tsx'
import { bytes, duration, plural } from '../text.ts'
import { type Upload, uploadQueue } from '../uploads.ts'

/** So many are shown; a folder of ten thousand files is not ten thousand rows. */
const shownMost = 20

/** In the order of what a person has to know: what failed, what runs, what waits, what is done. */
const order: readonly Upload['state'][] = ['failed', 'cut', 'running', 'waiting', 'done', 'stopped']

const isUnderWay = ({ state }: Upload): boolean => state === 'running' || state === 'waiting'

/** `bucket`: of the page; uploads to others are told with theirs. */
export function UploadList({
  uploads,
  bucket,
}: {
  readonly uploads: readonly Upload[]
  readonly bucket?: string
}) {
  if (uploads.length === 0) return null
  const countOf = (wanted: Upload['state']): number => uploads.filter(({ state }) => state === wanted).length
  const [done, failed, cut] = [countOf('done'), countOf('failed'), countOf('cut')]
  const isRunning = uploads.some(isUnderWay)
  const sorted = uploads.toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state))
  const hidden = Math.max(0, sorted.length - shownMost)
  return (
    <Card title="Uploads">
      {/* Spoken when a file is done, not with every part. */}
      <p class="muted" aria-live="polite">
        {`${isRunning ? 'Uploading: ' : ''}${done} of ${plural(uploads.length, 'file')} done`}
        {failed > 0 ? `, ${failed} failed` : ''}
        {cut > 0 ? `, ${cut} cut off when the page was left` : ''}
      </p>
      <div class="uploads">
        {sorted.slice(0, shownMost).map((upload) => (
          <Row key={upload.id} upload={upload} bucket={bucket} />
        ))}
      </div>
      {hidden > 0 && <p class="muted">and {plural(hidden, 'more file', 'more files')}</p>}
      {!isRunning && done + countOf('stopped') > 0 && (
        <button type="button" class="plain" onClick={() => uploadQueue.clear()}>
          Clear the list
        </button>
      )}
    </Card>
  )
}

function Row({ upload, bucket: here }: { readonly upload: Upload; readonly bucket: string | undefined }) {
  const { id, bucket, key, total, loaded, state, error } = upload
  const name = bucket === here ? key : `${bucket}/${key}`
  const picker = useRef<HTMLInputElement>(null)
  const isStill = state === 'failed' || state === 'cut'
  return (
    <div class="upload">
      <div class="line">
        <span class="name" title={`${bucket}/${key}`}>
          {name}
        </span>
        <span class="muted number">{describe(upload)}</span>
        {state === 'failed' && (
          <button
            type="button"
            class="plain"
            aria-label={`${loaded > 0 ? 'Go on' : 'Try again'} with ${name}`}
            onClick={() => uploadQueue.again(id)}
          >
            {loaded > 0 ? 'Go on' : 'Try again'}
          </button>
        )}
        {state === 'cut' && (
          <>
            <button
              type="button"
              class="plain"
              aria-label={`Choose the file again: ${name}`}
              onClick={() => picker.current?.click()}
            >
              Choose the file again
            </button>
            <input
              ref={picker}
              type="file"
              hidden
              aria-label={`File of ${name}`}
              onChange={({ currentTarget }) => {
                const file = currentTarget.files?.[0]
                if (file !== undefined) uploadQueue.resume(id, file)
                currentTarget.value = ''
              }}
            />
          </>
        )}
        {(isUnderWay(upload) || isStill) && (
          <button
            type="button"
            class="plain risky"
            aria-label={`${isStill ? 'Give up' : 'Stop'} ${name}`}
            onClick={() => void uploadQueue.stop(id)}
          >
            {isStill ? 'Give up' : 'Stop'}
          </button>
        )}
      </div>
      {(state !== 'cut' || loaded > 0) && (
        <progress
          aria-label={`Upload of ${name}`}
          max={Math.max(1, total)}
          value={total === 0 && state === 'done' ? 1 : loaded}
        />
      )}
      <Failure text={error} />
    </div>
  )
}

function describe({ state, loaded, total, bytesPerSecond }: Upload): string {
  switch (state) {
    case 'waiting':
      return `${bytes(total)}, waits`
    case 'running': {
      const left =
        bytesPerSecond === 0 ? '' : `, ${duration(((total - loaded) / bytesPerSecond) * 1000)} left`
      return `${bytes(loaded)} of ${bytes(total)}, ${bytes(bytesPerSecond)}/s${left}`
    }
    case 'done':
      return `${bytes(total)}, durable`
    case 'failed':
      return loaded > 0 ? `failed; ${bytes(loaded)} of ${bytes(total)} are kept` : 'failed'
    case 'cut':
      return loaded > 0
        ? `cut off; ${bytes(loaded)} of ${bytes(total)} are kept`
        : `${bytes(total)}, cut off; what has arrived is kept`
    case 'stopped':
      return 'stopped: nothing of it is kept'
  }
}
