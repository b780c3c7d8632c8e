import { StorageError } from '../../contract/errors.ts'
import type { ObjectRecord, VersionId } from '../../contract/object-model.ts'
import type { OperationContext } from './operation.ts'
import { bucketOf, keyOf, objectOf } from './resources.ts'
import type { TagSet } from './tag-set.ts'

/** How often a change is judged anew when somebody replaced its object meanwhile: more is a client that fights another. */
const maxTries = 3

/** What a command says of the object that it changes. */
export interface JudgedObject {
  readonly bucketId: number
  readonly key: string
  readonly version: VersionId | 'null'
  readonly expected: VersionId
}

/**
 * Changes the object that the request names, and no other one: `null` is whatever is there when the entry is applied, so the
 * entry names the version that was judged, too. To be called with the body at hand: what the edge judged before the body came
 * may be another's by now, or have other tags. From here to the entry nobody waits for the client.
 * `tags` are those that the change stores. CONFLICT when it was replaced each time.
 */
export async function changeJudged<T>(
  context: OperationContext,
  action: string,
  change: (object: JudgedObject, record: ObjectRecord) => Promise<T>,
  tags?: TagSet,
): Promise<T> {
  const bucket = bucketOf(context)
  const key = keyOf(context)
  for (let tries = 1; ; tries++) {
    context.authorize(action, bucket, key, context.request.query.get('versionId'), tags)
    const record = objectOf(context)
    const { versionId, isNull } = record
    const version = isNull ? 'null' : versionId
    try {
      return await change({ bucketId: bucket.id, key, version, expected: versionId }, record)
    } catch (reason) {
      const isReplaced = reason instanceof StorageError && reason.code === 'CONFLICT'
      if (!isReplaced || tries === maxTries) throw reason
    }
  }
}

/** The document of the request, and then what has been acknowledged while it came: also rules, which another node may have changed. */
export async function readBeforeChange(context: OperationContext, limitBytes: number): Promise<string> {
  const text = await context.request.body.text(limitBytes)
  await context.gateway.catalog.barrier()
  return text
}
