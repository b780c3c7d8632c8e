import { useCallback, useRef, useState } from 'preact/hooks'
import type { ListEntry } from '../../../../sdk/index.ts'
import type { PageProps } from '../app.tsx'
import { downloadPath, objects } from '../node.ts'
import { Card, Dialog, Failure, Head, Table } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { useAction, usePoll } from '../poll.ts'
import { bytes, count, duration, moment } from '../text.ts'
import { type Upload, useUploads } from '../uploads.ts'

/** So many rows at a time: more are asked for with a button. */
const pageRows = 200

const nameOf = (entry: ListEntry, prefix: string): string =>
  (entry.type === 'object' ? entry.key : entry.prefix).slice(prefix.length)

export function Objects({ path: [bucket = '', prefix = ''] }: PageProps) {
  const [rows, setRows] = useState(pageRows)
  const [doomed, setDoomed] = useState<string | undefined>(undefined)
  const [isOver, setIsOver] = useState(false)
  const picker = useRef<HTMLInputElement>(null)
  const { value, error, refresh } = usePoll(
    async (signal) => {
      const entries: ListEntry[] = []
      for await (const entry of objects.list(bucket, { prefix, delimiter: '/', signal })) {
        entries.push(entry)
        if (entries.length > rows) break
      }
      return entries
    },
    10_000,
    `${bucket}/${prefix}/${rows}`,
  )
  const { uploads, add, stop, clear } = useUploads(useCallback(() => refresh(), [refresh]))
  const take = (files: FileList | null | undefined): void => add(bucket, prefix, [...(files ?? [])])
  return (
    <>
      <Head title={bucket}>
        <button type="button" class="main" onClick={() => picker.current?.click()}>
          <Icon name="upload" size={17} /> Upload files
        </button>
        <input
          ref={picker}
          type="file"
          multiple
          hidden
          aria-label="Files to upload"
          onChange={(event) => {
            take(event.currentTarget.files)
            event.currentTarget.value = ''
          }}
        />
      </Head>
      <div class="stack">
        <Crumbs bucket={bucket} prefix={prefix} />
        <Failure text={error} />
        <Uploads uploads={uploads} onStop={stop} onClear={clear} />
        {/* biome-ignore lint/a11y/noStaticElementInteractions: dropping is beside the button that does the same */}
        <div
          class={isOver ? 'drop over' : 'drop'}
          onDragOver={(event) => {
            event.preventDefault()
            setIsOver(true)
          }}
          onDragLeave={() => setIsOver(false)}
          onDrop={(event) => {
            event.preventDefault()
            setIsOver(false)
            take(event.dataTransfer?.files)
          }}
        >
          <Card flush>
            <Table
              label={`Objects in ${bucket}/${prefix}`}
              rows={value?.slice(0, rows)}
              id={(entry) => (entry.type === 'object' ? `o${entry.key}` : `p${entry.prefix}`)}
              empty={
                <>
                  <Icon name="upload" size={34} />
                  <p>Nothing here. Drop files on this page, or choose some.</p>
                </>
              }
              columns={[
                {
                  title: 'Name',
                  cell: (entry) =>
                    entry.type === 'object' ? (
                      <span class="name">{nameOf(entry, prefix)}</span>
                    ) : (
                      <a class="name" href={hrefOf(bucket, entry.prefix)}>
                        {nameOf(entry, prefix)}
                      </a>
                    ),
                },
                {
                  title: 'Size',
                  right: true,
                  cell: (entry) => (entry.type === 'object' ? bytes(entry.size) : ''),
                },
                {
                  title: 'Changed',
                  cell: (entry) => (entry.type === 'object' ? moment(entry.lastModified.getTime()) : ''),
                },
                {
                  title: '',
                  cell: (entry) =>
                    entry.type === 'object' ? (
                      <>
                        <a
                          class="button plain"
                          href={downloadPath(bucket, entry.key)}
                          download
                          aria-label={`Download ${nameOf(entry, prefix)}`}
                        >
                          Download
                        </a>
                        <button
                          type="button"
                          class="plain risky"
                          aria-label={`Delete ${nameOf(entry, prefix)}`}
                          onClick={() => setDoomed(entry.key)}
                        >
                          Delete
                        </button>
                      </>
                    ) : null,
                },
              ]}
            />
            {(value?.length ?? 0) > rows && (
              <div class="empty">
                <button type="button" onClick={() => setRows((before) => before + pageRows)}>
                  Show more than {count(rows)}
                </button>
              </div>
            )}
          </Card>
        </div>
      </div>
      {doomed !== undefined && (
        <DeleteObject
          bucket={bucket}
          name={doomed}
          onClose={() => {
            setDoomed(undefined)
            refresh()
          }}
        />
      )}
    </>
  )
}

const hrefOf = (bucket: string, prefix: string): string =>
  `#/buckets/${encodeURIComponent(bucket)}${prefix === '' ? '' : `/${encodeURIComponent(prefix)}`}`

function Crumbs({ bucket, prefix }: { readonly bucket: string; readonly prefix: string }) {
  const parts = prefix.split('/').slice(0, -1)
  const trail = parts.map((part, index) => ({ part, to: `${parts.slice(0, index + 1).join('/')}/` }))
  return (
    <nav aria-label="Folder">
      <ol class="crumbs">
        <li>
          <a href="#/buckets">Buckets</a>
        </li>
        <li>
          <a href={hrefOf(bucket, '')} aria-current={prefix === '' ? 'location' : undefined}>
            {bucket}
          </a>
        </li>
        {trail.map(({ part, to }) => (
          <li key={to}>
            <a href={hrefOf(bucket, to)} aria-current={to === prefix ? 'location' : undefined}>
              {part === '' ? '(empty)' : part}
            </a>
          </li>
        ))}
      </ol>
    </nav>
  )
}

function Uploads({
  uploads,
  onStop,
  onClear,
}: {
  readonly uploads: readonly Upload[]
  readonly onStop: (id: number) => void
  readonly onClear: () => void
}) {
  if (uploads.length === 0) return null
  const running = uploads.filter(({ state }) => state === 'running' || state === 'waiting')
  const done = uploads.filter(({ state }) => state === 'done')
  return (
    <Card title="Uploads">
      {/* Spoken when a file is done, not with every part. */}
      <p class="hidden-visually" aria-live="polite">
        {running.length === 0
          ? `${done.length} of ${uploads.length} files uploaded`
          : `Uploading: ${done.length} of ${uploads.length} files done`}
      </p>
      <div class="uploads">
        {uploads.map((upload) => (
          <div class="upload" key={upload.id}>
            <div class="line">
              <span class="name">{upload.key}</span>
              <span class="muted number">{describe(upload)}</span>
              {(upload.state === 'running' || upload.state === 'waiting') && (
                <button
                  type="button"
                  class="plain"
                  aria-label={`Stop ${upload.key}`}
                  onClick={() => onStop(upload.id)}
                >
                  Stop
                </button>
              )}
            </div>
            <progress
              aria-label={`Upload of ${upload.key}`}
              max={Math.max(1, upload.total)}
              value={upload.total === 0 && upload.state === 'done' ? 1 : upload.loaded}
            />
            <Failure text={upload.error} />
          </div>
        ))}
      </div>
      {running.length === 0 && (
        <button type="button" class="plain" onClick={onClear}>
          Clear the list
        </button>
      )}
    </Card>
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
      return 'failed'
    case 'stopped':
      return 'stopped: nothing of it is kept'
  }
}

function DeleteObject({
  bucket,
  name,
  onClose,
}: {
  readonly bucket: string
  readonly name: string
  readonly onClose: () => void
}) {
  const { busy, error, run } = useAction()
  return (
    <Dialog title="Delete this object?" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          run(async () => {
            await objects.delete(bucket, name)
            onClose()
          })
        }}
      >
        <p class="mono">{name}</p>
        <p class="muted">In a bucket with versions the older ones stay; otherwise it is gone for good.</p>
        <Failure text={error} />
        <div class="buttons">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="danger" disabled={busy}>
            Delete
          </button>
        </div>
      </form>
    </Dialog>
  )
}
