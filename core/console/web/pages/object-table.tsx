import type { RefObject } from 'preact'
import type { ListEntry, Versioning } from '../../../../sdk/index.ts'
import { downloadPath, objects } from '../node.ts'
import { Icon } from '../parts/icons.tsx'
import { type Close, Question } from '../parts/question.tsx'
import { bytes, moment } from '../text.ts'
import { type FolderProps, FolderTable } from './folder-table.tsx'
import { nameIn } from './object-paths.ts'
import { ObjectTags } from './object-tags.tsx'

type Stored = Exclude<ListEntry, { readonly type: 'prefix' }>

/** The objects of a folder as they are now. */
export function ObjectTable({ versioning, ...place }: FolderProps) {
  const { bucket, folder } = place
  return (
    <FolderTable<Stored>
      {...place}
      title="Objects"
      view="objects"
      read={(listed, after) =>
        objects.list(bucket, {
          ...listed,
          ...(after === undefined ? {} : { startAfter: after.type === 'prefix' ? after.prefix : after.key }),
        })
      }
      id={({ key }) => key}
      empty={
        <>
          <Icon name="upload" size={34} />
          <p>Nothing here. Drop files on this page, or choose some.</p>
        </>
      }
      nameTitle="Name"
      columns={[
        { title: 'Size', right: true, cell: ({ size }) => bytes(size) },
        { title: 'Changed', oneLine: true, cell: ({ lastModified }) => moment(lastModified.getTime()) },
      ]}
      tools={({ key }, ask) => (
        <>
          <button
            type="button"
            class="plain"
            aria-label={`Tags of ${nameIn(folder, key)}`}
            onClick={() => ask(({ onClose }) => <ObjectTags bucket={bucket} name={key} onClose={onClose} />)}
          >
            Tags
          </button>
          <a
            class="button plain"
            href={downloadPath(bucket, key)}
            download
            aria-label={`Download ${nameIn(folder, key)}`}
          >
            Download
          </a>
          <button
            type="button"
            class="plain risky"
            aria-label={`Delete ${nameIn(folder, key)}`}
            onClick={() =>
              ask((asked) => (
                <DeleteObject {...asked} bucket={bucket} folder={folder} name={key} versioning={versioning} />
              ))
            }
          >
            Delete
          </button>
        </>
      )}
    />
  )
}

function DeleteObject({
  bucket,
  folder,
  name,
  versioning,
  ...asked
}: {
  readonly bucket: string
  readonly folder: string
  readonly name: string
  readonly versioning: Versioning | undefined
  readonly top: RefObject<HTMLElement | null>
  readonly onClose: Close
}) {
  return (
    <Question
      {...asked}
      title="Delete this object?"
      action="Delete"
      risky
      work={async () => {
        await objects.delete(bucket, name)
        return `${nameIn(folder, name)} is deleted.`
      }}
    >
      <p class="mono long">{name}</p>
      <p class="muted">{fateOf(versioning)}</p>
    </Question>
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
