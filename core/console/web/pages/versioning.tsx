import type { Versioning } from '../../../../sdk/index.ts'
import { objects } from '../node.ts'
import { Dialog, Failure } from '../parts/frame.tsx'
import { useAction } from '../poll.ts'

export const versioningText: Readonly<Record<Versioning, string>> = {
  off: 'no versions',
  enabled: 'keeps versions',
  suspended: 'versions are suspended',
}

/** The switch of a bucket: on, or suspended; once on, what is kept is kept. */
export function SetVersioning({
  bucket,
  versioning,
  onClose,
}: {
  readonly bucket: string
  readonly versioning: Versioning
  readonly onClose: (done: string | undefined) => void
}) {
  const { busy, error, run } = useAction()
  const isOn = versioning === 'enabled'
  return (
    <Dialog
      title={isOn ? `Suspend versions of ${bucket}?` : `Keep versions in ${bucket}?`}
      onClose={() => onClose(undefined)}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault()
          run(async () => {
            await objects.setVersioning(bucket, isOn ? 'suspended' : 'enabled')
            onClose(isOn ? 'New versions are no longer kept.' : 'From now on every version is kept.')
          })
        }}
      >
        <p>
          {isOn
            ? 'Versions that are there stay. What is written or deleted from now on takes the place of the version that is called “null”, for good.'
            : 'From now on nothing is overwritten or deleted for good: what was there before stays as an older version, and takes space until it is deleted. It can be suspended, not undone.'}
        </p>
        <Failure text={error} />
        <div class="buttons">
          <button type="button" onClick={() => onClose(undefined)}>
            Cancel
          </button>
          <button type="submit" class={isOn ? 'danger' : 'main'} disabled={busy}>
            {isOn ? 'Suspend' : 'Keep versions'}
          </button>
        </div>
      </form>
    </Dialog>
  )
}
