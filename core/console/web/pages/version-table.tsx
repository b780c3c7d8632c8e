import type { RefObject } from 'preact'
import type { VersionEntry, Versioning } from '../../../../sdk/index.ts'
import { downloadPath, objects } from '../node.ts'
import { Badge } from '../parts/frame.tsx'
import { type Close, Question } from '../parts/question.tsx'
import { bytes, moment } from '../text.ts'
import { type Ask, type FolderProps, FolderTable } from './folder-table.tsx'
import { nameIn } from './object-paths.ts'
import { ObjectTags } from './object-tags.tsx'

type Version = Exclude<VersionEntry, { readonly type: 'prefix' }>

/** Whatever of a folder can still be had: every version, and the markers that hide what was deleted. */
export function VersionTable({ versioning, ...place }: FolderProps) {
  const { bucket, folder } = place
  return (
    <FolderTable<Version>
      {...place}
      title="Versions"
      view="versions"
      read={(listed, after) =>
        objects.listVersions(bucket, {
          ...listed,
          ...(after === undefined ? {} : { after: after.type === 'prefix' ? { key: after.prefix } : after }),
        })
      }
      id={({ key, versionId }) => `${key}\n${versionId}`}
      empty={<p>Nothing was ever here.</p>}
      nameTitle="Name, version"
      under={({ versionId }) => <code class="under">{versionId}</code>}
      columns={[
        { title: 'State', cell: (version) => <State version={version} /> },
        {
          title: 'Size',
          right: true,
          cell: (version) => (version.type === 'version' ? bytes(version.size) : ''),
        },
        { title: 'Since', oneLine: true, cell: ({ lastModified }) => moment(lastModified.getTime()) },
      ]}
      tools={(version, ask) => (
        <Tools bucket={bucket} folder={folder} version={version} versioning={versioning} ask={ask} />
      )}
    />
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

const isUndo = ({ type, isLatest }: Version): boolean => type === 'delete-marker' && isLatest

function Tools({
  bucket,
  folder,
  version,
  versioning,
  ask,
}: {
  readonly bucket: string
  readonly folder: string
  readonly version: Version
  readonly versioning: Versioning | undefined
  readonly ask: Ask
}) {
  const name = spoken(folder, version)
  const isDeleted = isUndo(version)
  return (
    <>
      {version.type === 'version' && !version.isLatest && (
        <button
          type="button"
          class="plain"
          aria-label={`Restore ${name}`}
          onClick={() =>
            ask((asked) => (
              <RestoreVersion {...asked} bucket={bucket} version={version} versioning={versioning} />
            ))
          }
        >
          Restore
        </button>
      )}
      {version.type === 'version' && (
        <>
          <button
            type="button"
            class="plain"
            aria-label={`Tags of ${name}`}
            onClick={() =>
              ask(({ onClose }) => (
                <ObjectTags
                  bucket={bucket}
                  name={version.key}
                  versionId={version.versionId}
                  onClose={onClose}
                />
              ))
            }
          >
            Tags
          </button>
          <a
            class="button plain"
            href={downloadPath(bucket, version.key, version.versionId)}
            download
            aria-label={`Download ${name}`}
          >
            Download
          </a>
        </>
      )}
      <button
        type="button"
        class={isDeleted ? 'plain' : 'plain risky'}
        aria-label={`${isDeleted ? 'Undelete' : 'Delete'} ${name}`}
        onClick={() => ask((asked) => <DeleteVersion {...asked} bucket={bucket} version={version} />)}
      >
        {isDeleted ? 'Undelete' : 'Delete'}
      </button>
    </>
  )
}

interface QuestionProps {
  readonly bucket: string
  readonly version: Version
  readonly top: RefObject<HTMLElement | null>
  readonly onClose: Close
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
  ...asked
}: QuestionProps & { readonly versioning: Versioning | undefined }) {
  const { key, versionId, lastModified } = version
  return (
    <Question
      {...asked}
      title="Restore this version?"
      action="Restore"
      busyAction="Copying…"
      work={async () => {
        await objects.copy({ bucket, key, versionId }, { bucket, key })
        return `The version of ${moment(lastModified.getTime())} is the newest again.`
      }}
    >
      <Facts version={version} />
      <p class="muted">
        {versioning === 'suspended'
          ? 'A copy of it, with its metadata and tags, becomes the newest version. The bucket keeps no new versions: the copy takes the place of the one that is called “null”.'
          : 'A copy of it, with its metadata and tags, becomes the newest version. All others stay.'}
      </p>
    </Question>
  )
}

function DeleteVersion({ bucket, version, ...asked }: QuestionProps) {
  const { key, versionId, type, isLatest } = version
  const isDeleted = isUndo(version)
  return (
    <Question
      {...asked}
      title={
        isDeleted
          ? 'Undelete this object?'
          : type === 'version'
            ? 'Delete this version for good?'
            : 'Delete this marker?'
      }
      action={isDeleted ? 'Undelete' : 'Delete'}
      risky={!isDeleted}
      work={async () => {
        await objects.delete(bucket, key, { versionId })
        return isDeleted ? 'The object is back.' : 'It is deleted for good.'
      }}
    >
      <Facts version={version} />
      <p class="muted">
        {isDeleted
          ? 'The delete marker is taken away, and what was newest before it is the newest again.'
          : type === 'delete-marker'
            ? 'It has no content: no version is lost with it.'
            : `Nobody can bring it back.${isLatest ? ' What was before it, if anything, becomes the newest.' : ''}`}
      </p>
    </Question>
  )
}
