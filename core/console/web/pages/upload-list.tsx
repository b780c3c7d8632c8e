import { Card, Failure } from '../parts/frame.tsx'
import { bytes, duration, plural } from '../text.ts'
import { type Upload, uploadQueue } from '../uploads.ts'

/** So many are shown; a folder of ten thousand files is not ten thousand rows. */
const shownMost = 20

/** In the order of what a person has to know: what failed, what runs, what waits, what is done. */
const order: readonly Upload['state'][] = ['failed', 'running', 'waiting', 'done', 'stopped']

const isUnderWay = ({ state }: Upload): boolean => state === 'running' || state === 'waiting'

export function UploadList({ uploads }: { readonly uploads: readonly Upload[] }) {
  if (uploads.length === 0) return null
  const done = uploads.filter(({ state }) => state === 'done').length
  const failed = uploads.filter(({ state }) => state === 'failed').length
  const isRunning = uploads.some(isUnderWay)
  const sorted = uploads.toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state))
  const hidden = Math.max(0, sorted.length - shownMost)
  return (
    <Card title="Uploads">
      {/* Spoken when a file is done, not with every part. */}
      <p class="muted" aria-live="polite">
        {`${isRunning ? 'Uploading: ' : ''}${done} of ${plural(uploads.length, 'file')} done`}
        {failed > 0 ? `, ${failed} failed` : ''}
      </p>
      <div class="uploads">
        {sorted.slice(0, shownMost).map((upload) => (
          <Row key={upload.id} upload={upload} />
        ))}
      </div>
      {hidden > 0 && <p class="muted">and {plural(hidden, 'more file', 'more files')}</p>}
      {!isRunning && failed < uploads.length && (
        <button type="button" class="plain" onClick={() => uploadQueue.clear()}>
          Clear the list
        </button>
      )}
    </Card>
  )
}

function Row({ upload }: { readonly upload: Upload }) {
  const { id, bucket, key, total, loaded, state, error } = upload
  return (
    <div class="upload">
      <div class="line">
        <span class="name" title={`${bucket}/${key}`}>
          {key}
        </span>
        <span class="muted number">{describe(upload)}</span>
        {state === 'failed' && (
          <button
            type="button"
            class="plain"
            aria-label={`${loaded > 0 ? 'Go on' : 'Try again'} with ${key}`}
            onClick={() => uploadQueue.again(id)}
          >
            {loaded > 0 ? 'Go on' : 'Try again'}
          </button>
        )}
        {(isUnderWay(upload) || state === 'failed') && (
          <button
            type="button"
            class="plain risky"
            aria-label={`${state === 'failed' ? 'Give up' : 'Stop'} ${key}`}
            onClick={() => uploadQueue.stop(id)}
          >
            {state === 'failed' ? 'Give up' : 'Stop'}
          </button>
        )}
      </div>
      <progress
        aria-label={`Upload of ${key}`}
        max={Math.max(1, total)}
        value={total === 0 && state === 'done' ? 1 : loaded}
      />
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
    case 'stopped':
      return 'stopped: nothing of it is kept'
  }
}
