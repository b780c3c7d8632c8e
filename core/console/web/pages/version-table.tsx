import type { RefObject } from 'preact'
import { useRef, useState } from 'preact/hooks'
import type { VersionEntry, Versioning } from '../../../../sdk/index.ts'
import { downloadPath, objects } from '../node.ts'
import { Badge, Card, Dialog, Failure, Table } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { useAction, usePoll } from '../poll.ts'
import { bytes, moment } from '../text.ts'
import { Pager, pageRows, readPage, usePages } from './listing.tsx'
import { hrefOf, nameIn } from './object-paths.ts'
import type { ListingProps } from './object-table.tsx'

type Version = Exclude<VersionEntry, { readonly type: 'prefix' }>
type Start = { readonly key: string; readonly versionId?: string }

const startOf = (entry: VersionEntry): Start =>
  entry.type === 'prefix' ? { key: entry.prefix } : { key: entry.key, versionId: entry.versionId }

const idOf = (entry: VersionEntry): string =>
  entry.type === 'prefix' ? entry.prefix : `${entry.key}\n${entry.versionId}`

/** Whatever of a folder can still be had: every version, and the markers that hide what was deleted. */
export function VersionTable({ bucket, folder, beginning, versioning, round, onDone }: ListingProps) {
  const [asked, setAsked] = useState<
    { readonly what: 'delete' | 'restore'; readonly of: Version } | undefined
  >(undefined)
  const top = useRef<HTMLDivElement>(null)
  const what = `${bucket}/${folder}${beginning}`
  const pages = usePages<Start>(what)
  const { start } = pages
  const { value, error, refresh } = usePoll(
    async (signal) =>
      readPage(
        objects.listVersions(bucket, {
          ...{ prefix: `${folder}${beginning}`, delimiter: '/', pageSize: pageRows + 2, signal },
          ...(start === undefined ? {} : { after: start }),
        }),
        (entry) => entry.type === 'prefix' && entry.prefix === start?.key,
      ),
    10_000,
    `${what}\n${JSON.stringify(start ?? '')}\n${round}`,
  )
  const last = value?.hasMore === true ? value.rows.at(-1) : undefined
  const close = (done: string | undefined): void => {
    setAsked(undefined)
    if (done === undefined) return
    onDone(done)
    refresh()
  }
  return (
    <div class="stack">
      <Failure text={error} />
      {(value !== undefined || error === undefined) && (
        <Card flush>
          <div ref={top} tabIndex={-1}>
            <Table
              label={`Versions in ${bucket}/${folder}`}
              rows={value?.rows}
              id={idOf}
              empty={
                <p>
                  {beginning === '' ? 'Nothing was ever here.' : `No name here begins with “${beginning}”.`}
                </p>
              }
              columns={[
                {
                  title: 'Name, version',
                  cell: (entry) =>
                    entry.type === 'prefix' ? (
                      <a class="name folder" href={hrefOf(bucket, entry.prefix, 'versions')}>
                        <Icon name="folder" size={17} />
                        {nameIn(folder, entry.prefix)}
                      </a>
                    ) : (
                      <>
                        <span class="name clamped" title={entry.key}>
                          {nameIn(folder, entry.key)}
                        </span>
                        <code class="under">{entry.versionId}</code>
                      </>
                    ),
                },
                {
                  title: 'State',
                  cell: (entry) => (entry.type === 'prefix' ? '' : <State version={entry} />),
                },
                {
                  title: 'Size',
                  right: true,
                  cell: (entry) => (entry.type === 'version' ? bytes(entry.size) : ''),
                },
                {
                  title: 'Since',
                  oneLine: true,
                  cell: (entry) => (entry.type === 'prefix' ? '' : moment(entry.lastModified.getTime())),
                },
                {
                  title: '',
                  cell: (entry) =>
                    entry.type === 'prefix' ? null : (
                      <Tools bucket={bucket} folder={folder} version={entry} onAsk={setAsked} />
                    ),
                },
              ]}
            />
          </div>
          <Pager
            pages={pages}
            shown={value?.rows.length}
            nextStart={last === undefined ? undefined : startOf(last)}
            top={top}
          />
        </Card>
      )}
      {asked?.what === 'restore' && (
        <RestoreVersion
          bucket={bucket}
          version={asked.of}
          versioning={versioning}
          top={top}
          onClose={close}
        />
      )}
      {asked?.what === 'delete' && (
        <DeleteVersion bucket={bucket} version={asked.of} top={top} onClose={close} />
      )}
    </div>
  )
}

function State({ version: { type, isLatest } }: { readonly version: Version }) {
  if (type === 'delete-marker')
    return <Badge tone={isLatest ? 'bad' : 'plain'}>{isLatest ? 'deleted' : 'was deleted'}</Badge>
  return <Badge tone={isLatest ? 'good' : 'plain'}>{isLatest ? 'newest' : 'older'}</Badge>
}

/** Told apart by ear, too: of one name there are many rows. */
const spoken = (folder: string, { key, lastModified }: Version): string =>
  `${nameIn(folder, key)} of ${moment(lastModified.getTime())}`

function Tools({
  bucket,
  folder,
  version,
  onAsk,
}: {
  readonly bucket: string
  readonly folder: string
  readonly version: Version
  readonly onAsk: (asked: { readonly what: 'delete' | 'restore'; readonly of: Version }) => void
}) {
  const name = spoken(folder, version)
  const isUndo = version.type === 'delete-marker' && version.isLatest
  return (
    <>
      {version.type === 'version' && !version.isLatest && (
        <button
          type="button"
          class="plain"
          aria-label={`Restore ${name}`}
          onClick={() => onAsk({ what: 'restore', of: version })}
        >
          Restore
        </button>
      )}
      {version.type === 'version' && (
        <a
          class="button plain"
          href={downloadPath(bucket, version.key, version.versionId)}
          download
          aria-label={`Download ${name}`}
        >
          Download
        </a>
      )}
      <button
        type="button"
        class={isUndo ? 'plain' : 'plain risky'}
        aria-label={`${isUndo ? 'Undelete' : 'Delete'} ${name}`}
        onClick={() => onAsk({ what: 'delete', of: version })}
      >
        {isUndo ? 'Undelete' : 'Delete'}
      </button>
    </>
  )
}

interface QuestionProps {
  readonly bucket: string
  readonly version: Version
  /** Where the focus goes when the rows have changed. */
  readonly top: RefObject<HTMLElement | null>
  /** What was done; undefined: nothing. */
  readonly onClose: (done: string | undefined) => void
}

function Facts({ version }: { readonly version: Version }) {
  return (
    <dl class="facts">
      <dt>Object</dt>
      <dd class="mono long">{version.key}</dd>
      <dt>Version</dt>
      <dd class="mono">{version.versionId}</dd>
      <dt>Since</dt>
      <dd>{moment(version.lastModified.getTime())}</dd>
    </dl>
  )
}

function RestoreVersion({
  bucket,
  version,
  versioning,
  top,
  onClose,
}: QuestionProps & { readonly versioning: Versioning | undefined }) {
  const { busy, error, run } = useAction()
  const focusAfter = useRef<HTMLElement | null>(null)
  const { key, versionId } = version
  return (
    <Dialog title="Restore this version?" focusAfter={focusAfter} onClose={() => onClose(undefined)}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          run(async () => {
            await objects.copy({ bucket, key, versionId }, { bucket, key })
            focusAfter.current = top.current
            onClose(`The version of ${moment(version.lastModified.getTime())} is the newest again.`)
          })
        }}
      >
        <Facts version={version} />
        <p class="muted">
          {versioning === 'suspended'
            ? 'A copy of it, with its metadata and tags, becomes the newest version. The bucket keeps no new versions: the copy takes the place of the one that is called “null”.'
            : 'A copy of it, with its metadata and tags, becomes the newest version. All others stay.'}
        </p>
        <Failure text={error} />
        <div class="buttons">
          <button type="button" onClick={() => onClose(undefined)}>
            Cancel
          </button>
          <button type="submit" class="main" disabled={busy}>
            {busy ? 'Copying…' : 'Restore'}
          </button>
        </div>
      </form>
    </Dialog>
  )
}

function DeleteVersion({ bucket, version, top, onClose }: QuestionProps) {
  const { busy, error, run } = useAction()
  const focusAfter = useRef<HTMLElement | null>(null)
  const { key, versionId, type, isLatest } = version
  const isUndo = type === 'delete-marker' && isLatest
  return (
    <Dialog
      title={
        isUndo
          ? 'Undelete this object?'
          : type === 'version'
            ? 'Delete this version for good?'
            : 'Delete this marker?'
      }
      focusAfter={focusAfter}
      onClose={() => onClose(undefined)}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault()
          run(async () => {
            await objects.delete(bucket, key, { versionId })
            focusAfter.current = top.current
            onClose(isUndo ? 'The object is back.' : 'It is deleted for good.')
          })
        }}
      >
        <Facts version={version} />
        <p class="muted">
          {isUndo
            ? 'The delete marker is taken away, and what was newest before it is the newest again.'
            : type === 'delete-marker'
              ? 'It has no content: no version is lost with it.'
              : `Nobody can bring it back.${isLatest ? ' What was before it, if anything, becomes the newest.' : ''}`}
        </p>
        <Failure text={error} />
        <div class="buttons">
          <button type="button" onClick={() => onClose(undefined)}>
            Cancel
          </button>
          <button type="submit" class={isUndo ? 'main' : 'danger'} disabled={busy}>
            {isUndo ? 'Undelete' : 'Delete'}
          </button>
        </div>
      </form>
    </Dialog>
  )
}
