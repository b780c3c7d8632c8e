import type { ComponentType } from 'preact'
import { useCallback, useRef, useState } from 'preact/hooks'
import type { PageProps } from '../app.tsx'
import { objects } from '../node.ts'
import { Head, Said } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { usePoll } from '../poll.ts'
import { uploadQueue, useUploads } from '../uploads.ts'
import type { FolderProps } from './folder-table.tsx'
import { hrefOf, type View } from './object-paths.ts'
import { ObjectTable } from './object-table.tsx'
import { UploadList } from './upload-list.tsx'
import { UploadTable } from './upload-table.tsx'
import { VersionTable } from './version-table.tsx'
import { SetVersioning, versioningText } from './versioning.tsx'

const views: readonly (readonly [View, string])[] = [
  ['objects', 'Objects'],
  ['versions', 'All versions'],
  ['uploads', 'Unfinished uploads'],
]

const tables: Readonly<Record<View, ComponentType<FolderProps>>> = {
  objects: ObjectTable,
  versions: VersionTable,
  uploads: UploadTable,
}

export function Objects({ path: [bucket = '', folder = '', view = ''] }: PageProps) {
  const [beginning, setBeginning] = useState('')
  const [round, setRound] = useState(0)
  const [said, setSaid] = useState('')
  const [isSwitching, setIsSwitching] = useState(false)
  const [isOver, setIsOver] = useState(false)
  const picker = useRef<HTMLInputElement>(null)
  // Whoever may not know it does without the switch; what is shown works all the same.
  const { value: versioning, refresh: lookAgain } = usePoll(
    async (signal) => objects.getVersioning(bucket, { signal }).catch(() => undefined),
    30_000,
    bucket,
  )
  const changed = useCallback(() => setRound((before) => before + 1), [])
  const uploads = useUploads(changed)
  const shown: View = view === 'versions' || view === 'uploads' ? view : 'objects'
  const keepsVersions = versioning === 'enabled' || versioning === 'suspended'
  const take = (files: FileList | null | undefined): void =>
    uploadQueue.add(bucket, folder, [...(files ?? [])])
  const Table = tables[shown]
  const listing = { bucket, folder, beginning, versioning, round, onDone: setSaid }
  return (
    <>
      <Head title={bucket} about={versioning === undefined ? undefined : versioningText[versioning]}>
        {versioning !== undefined && (
          <button type="button" onClick={() => setIsSwitching(true)}>
            {versioning === 'enabled' ? 'Suspend versions' : 'Keep versions'}
          </button>
        )}
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
        <Crumbs bucket={bucket} folder={folder} view={shown} />
        <div class="row">
          <label class="inline">
            Names that begin with
            <input
              type="search"
              spellcheck={false}
              value={beginning}
              onInput={(event) => setBeginning(event.currentTarget.value)}
            />
          </label>
          <nav class="segments" aria-label="What is shown">
            {views
              .filter(([each]) => each !== 'versions' || keepsVersions || shown === each)
              .map(([each, title]) => (
                <a
                  key={each}
                  href={hrefOf(bucket, folder, each)}
                  aria-current={shown === each ? 'true' : undefined}
                >
                  {title}
                </a>
              ))}
          </nav>
        </div>
        <Said text={said} />
        <UploadList uploads={uploads} bucket={bucket} />
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
          <Table {...listing} />
        </div>
      </div>
      {isSwitching && versioning !== undefined && (
        <SetVersioning
          bucket={bucket}
          versioning={versioning}
          onClose={(done) => {
            setIsSwitching(false)
            if (done === undefined) return
            setSaid(done)
            lookAgain()
          }}
        />
      )}
    </>
  )
}

function Crumbs({
  bucket,
  folder,
  view,
}: {
  readonly bucket: string
  readonly folder: string
  readonly view: View
}) {
  const parts = folder.split('/').slice(0, -1)
  const trail = parts.map((part, index) => ({ part, to: `${parts.slice(0, index + 1).join('/')}/` }))
  return (
    <nav aria-label="Folder">
      <ol class="crumbs">
        <li>
          <a href="#/buckets">Buckets</a>
        </li>
        <li>
          <a href={hrefOf(bucket, '', view)} aria-current={folder === '' ? 'location' : undefined}>
            {bucket}
          </a>
        </li>
        {trail.map(({ part, to }) => (
          <li key={to}>
            <a href={hrefOf(bucket, to, view)} aria-current={to === folder ? 'location' : undefined}>
              {part === '' ? '(empty)' : part}
            </a>
          </li>
        ))}
      </ol>
    </nav>
  )
}
