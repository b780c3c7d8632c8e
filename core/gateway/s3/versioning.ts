import { StorageError } from '../../contract/errors.ts'
import { notImplemented } from './errors.ts'
import type { Operation } from './operation.ts'
import { bucketOf } from './resources.ts'
import type { Route } from './route.ts'
import { document, element, parseXml } from './xml.ts'

const maxConfigBytes = 16 * 1024

const getBucketVersioning: Operation = {
  name: 'GetBucketVersioning',
  action: 's3:GetBucketVersioning',
  async handle(context) {
    const { versioning } = bucketOf(context)
    const status = { off: undefined, enabled: 'Enabled', suspended: 'Suspended' }[versioning]
    return { status: 200, body: document('VersioningConfiguration', element('Status', status)) }
  },
}

const putBucketVersioning: Operation = {
  name: 'PutBucketVersioning',
  action: 's3:PutBucketVersioning',
  async handle(context) {
    const root = parseXml(await context.request.body.text(maxConfigBytes), 'VersioningConfiguration')
    const mfaDelete = root.textOf('MfaDelete') ?? root.textOf('MFADelete')
    if (mfaDelete !== undefined && mfaDelete.trim() !== 'Disabled') throw notImplemented('MfaDelete')
    const status = root.textOf('Status')?.trim()
    if (status !== 'Enabled' && status !== 'Suspended') {
      throw new StorageError(
        'MALFORMED_XML',
        'The XML you provided was not well-formed or did not validate against our published schema',
      )
    }
    await context.gateway.catalog.submit({
      type: 'set-versioning',
      bucketId: bucketOf(context).id,
      state: status === 'Enabled' ? 'enabled' : 'suspended',
    })
    return { status: 200 }
  },
}

export const versioningRoutes: readonly Route[] = [
  { level: 'bucket', method: 'GET', subresource: 'versioning', operation: getBucketVersioning },
  { level: 'bucket', method: 'PUT', subresource: 'versioning', operation: putBucketVersioning },
]
