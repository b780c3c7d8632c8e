import type { RefObject } from 'preact'
import { useRef, useState } from 'preact/hooks'
import type { ListEntry, Versioning } from '../../../../sdk/index.ts'
import { downloadPath, objects } from '../node.ts'
import { Card, Dialog, Failure, Table } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { useAction, usePoll } from '../poll.ts'
import { bytes, moment } from '../text.ts'
import { Pager, pageRows, readPage, usePages } from './listing.tsx'
import { hrefOf, nameIn } from './object-paths.ts'

export interface ListingProps {
  readonly bucket: string
  readonly folder: string
  /** Only names that begin with it. */
  readonly beginning: string
  readonly versioning: Versioning | undefined
  /** Grows when what is shown has changed from elsewhere in the page. */
  readonly round: number
  /** Tells what was done. */
  readonly onDone: (text: string) => void
}

const keyOf = (entry: ListEntry): string => (entry.type === 'object' ? entry.key : entry.prefix)

/** The objects of a folder as they are now. */
export function ObjectTable({ bucket, folder, beginning, versioning, round, onDone }: ListingProps) {
  const [doomed, setDoomed] = useState<string | undefined>(undefined)
  const top = useRef<HTMLDivElement>(null)
  const what = `${bucket}/${folder}${beginning}`
  const pages = usePages<string>(what)
  const { start } = pages
  const { value, error, refresh } = usePoll(
    async (signal) =>
      readPage(
        objects.list(bucket, {
          ...{ prefix: `${folder}${beginning}`, delimiter: '/', pageSize: pageRows + 2, signal },
          ...(start === undefined ? {} : { startAfter: start }),
        }),
        // A folder goes on behind its own name.
        (entry) => entry.type === 'prefix' && entry.prefix === start,
      ),
    10_000,
    `${what}\n${start ?? ''}\n${round}`,
  )
  const last = value?.hasMore === true ? value.rows.at(-1) : undefined
  return (
    <div class="stack">
      <Failure text={error} />
      {(value !== undefined || error === undefined) && (
        <Card flush>
          <div ref={top} tabIndex={-1}>
            <Table
              label={`Objects in ${bucket}/${folder}`}
              rows={value?.rows}
              id={(entry) => `${entry.type} ${keyOf(entry)}`}
              empty={
                beginning === '' ? (
                  <>
                    <Icon name="upload" size={34} />
                    <p>Nothing here. Drop files on this page, or choose some.</p>
                  </>
                ) : (
                  <p>No name here begins with “{beginning}”.</p>
                )
              }
              columns={[
                {
                  title: 'Name',
                  cell: (entry) =>
                    entry.type === 'object' ? (
                      <span class="name clamped" title={entry.key}>
                        {nameIn(folder, entry.key)}
                      </span>
                    ) : (
                      <a class="name folder" href={hrefOf(bucket, entry.prefix)}>
                        <Icon name="folder" size={17} />
                        {nameIn(folder, entry.prefix)}
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
                  oneLine: true,
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
                          aria-label={`Download ${nameIn(folder, entry.key)}`}
                        >
                          Download
                        </a>
                        <button
                          type="button"
                          class="plain risky"
                          aria-label={`Delete ${nameIn(folder, entry.key)}`}
                          onClick={() => setDoomed(entry.key)}
                        >
                          Delete
                        </button>
                      </>
                    ) : null,
                },
              ]}
            />
          </div>
          <Pager
            pages={pages}
            shown={value?.rows.length}
            nextStart={last === undefined ? undefined : keyOf(last)}
            top={top}
          />
        </Card>
      )}
      {doomed !== undefined && (
        <DeleteObject
          bucket={bucket}
          name={doomed}
          versioning={versioning}
          top={top}
          onClose={(isDone) => {
            setDoomed(undefined)
            if (!isDone) return
            onDone(`${nameIn(folder, doomed)} is deleted.`)
            refresh()
          }}
        />
      )}
    </div>
  )
}

function DeleteObject({
  bucket,
  name,
  versioning,
  top,
  onClose,
}: {
  readonly bucket: string
  readonly name: string
  readonly versioning: Versioning | undefined
  readonly top: RefObject<HTMLElement | null>
  readonly onClose: (isDone: boolean) => void
}) {
  const { busy, error, run } = useAction()
  const focusAfter = useRef<HTMLElement | null>(null)
  return (
    <Dialog title="Delete this object?" focusAfter={focusAfter} onClose={() => onClose(false)}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          run(async () => {
            await objects.delete(bucket, name)
            focusAfter.current = top.current
            onClose(true)
          })
        }}
      >
        <p class="mono long">{name}</p>
        <p class="muted">{fateOf(versioning)}</p>
        <Failure text={error} />
        <div class="buttons">
          <button type="button" onClick={() => onClose(false)}>
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

function fateOf(versioning: Versioning | undefined): string {
  switch (versioning) {
    case 'off':
      return 'The bucket keeps no versions: it is gone for good.'
    case 'enabled':
      return 'A delete marker hides it. Its versions stay, and each can be restored.'
    case 'suspended':
      return 'The bucket keeps no new versions: those with an id stay, the one that is called “null” is gone for good.'
    case undefined:
      return 'In a bucket with versions the older ones stay; otherwise it is gone for good.'
  }
}
