import type { RefObject } from 'preact'
import type { UploadEntry } from '../../../../sdk/index.ts'
import { objects } from '../node.ts'
import { type Close, Question } from '../parts/question.tsx'
import { moment } from '../text.ts'
import { type FolderProps, FolderTable } from './folder-table.tsx'
import { nameIn } from './object-paths.ts'

type Begun = Exclude<UploadEntry, { readonly type: 'prefix' }>

/** What anybody has begun to upload in parts, and neither ended nor taken back: it takes space, and is no object yet. */
export function UploadTable({ versioning: _, ...place }: FolderProps) {
  const { bucket, folder } = place
  return (
    <FolderTable<Begun>
      {...place}
      title="Unfinished uploads"
      view="uploads"
      read={(listed, after) =>
        objects.listUploads(bucket, {
          ...listed,
          ...(after === undefined ? {} : { after: after.type === 'prefix' ? { key: after.prefix } : after }),
        })
      }
      id={({ key, uploadId }) => `${key}\n${uploadId}`}
      empty={<p>Nothing is half uploaded here.</p>}
      nameTitle="Name, upload"
      under={({ uploadId }) => <code class="under">{uploadId}</code>}
      columns={[{ title: 'Begun', oneLine: true, cell: ({ initiated }) => moment(initiated.getTime()) }]}
      tools={(upload, ask) => (
        <button
          type="button"
          class="plain risky"
          aria-label={`Take back ${nameIn(folder, upload.key)} of ${moment(upload.initiated.getTime())}`}
          onClick={() => ask((asked) => <TakeBack {...asked} bucket={bucket} upload={upload} />)}
        >
          Take back
        </button>
      )}
    />
  )
}

function TakeBack({
  bucket,
  upload: { key, uploadId, initiated },
  ...asked
}: {
  readonly bucket: string
  readonly upload: Begun
  readonly top: RefObject<HTMLElement | null>
  readonly onClose: Close
}) {
  return (
    <Question
      {...asked}
      title="Take this upload back?"
      action="Take back"
      risky
      work={async () => {
        await objects.abortUpload({ bucket, key, uploadId })
        return 'The upload is taken back.'
      }}
    >
      <dl class="facts">
        <dt>Object</dt>
        <dd class="mono long">{key}</dd>
        <dt>Begun</dt>
        <dd>{moment(initiated.getTime())}</dd>
      </dl>
      <p class="muted">
        What has arrived of it is freed. An object of that name stays as it is. Whoever is still sending it is
        refused, and has to begin anew.
      </p>
    </Question>
  )
}
