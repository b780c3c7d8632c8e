import { type ErrorCode, StorageError } from '../../contract/errors.ts'
import { notImplemented } from './errors.ts'
import type { Operation } from './operation.ts'
import { bucketOf } from './resources.ts'
import type { Route } from './route.ts'
import { document, element, parseXml } from './xml.ts'

/**
 * Configurations that this gateway does not offer. Clients probe them, so reading one answers what S3 answers for a
 * bucket that never had it, deleting one changes nothing and says so, and setting one is NotImplemented: never a fake
 * success.
 */

const never = (
  name: string,
  action: string,
  subresource: string,
  code: ErrorCode,
  reason: string,
): Route => ({
  level: 'bucket',
  method: 'GET',
  subresource,
  operation: {
    name,
    action,
    async handle(context) {
      throw new StorageError(code, reason, { details: { BucketName: bucketOf(context).name } })
    },
  },
})

const empty = (name: string, action: string, subresource: string, root: string): Route => ({
  level: 'bucket',
  method: 'GET',
  subresource,
  operation: { name, action, handle: async () => ({ status: 200, body: document(root, '') }) },
})

/** A list of configurations where a single one is named by `id`. */
const emptyList = (name: string, action: string, subresource: string, root: string): Route => ({
  level: 'bucket',
  method: 'GET',
  subresource,
  operation: {
    name,
    action,
    async handle({ request }) {
      if (request.query.has('id')) {
        throw new StorageError('NO_SUCH_CONFIGURATION', 'The specified configuration does not exist.')
      }
      return { status: 200, body: document(root, element('IsTruncated', false)) }
    },
  },
})

/** Deleting what is not there succeeds in S3. */
const deleteNothing = (name: string, action: string, subresource: string): Route => ({
  level: 'bucket',
  method: 'DELETE',
  subresource,
  operation: { name, action, handle: async () => ({ status: 204 }) },
})

const getRequestPayment: Operation = {
  name: 'GetBucketRequestPayment',
  action: 's3:GetBucketRequestPayment',
  handle: async () => ({
    status: 200,
    body: document('RequestPaymentConfiguration', element('Payer', 'BucketOwner')),
  }),
}

/** The owner pays: the one setting that has a meaning here. */
const putRequestPayment: Operation = {
  name: 'PutBucketRequestPayment',
  action: 's3:PutBucketRequestPayment',
  async handle({ request }) {
    const payer = parseXml(await request.body.text(16 * 1024), 'RequestPaymentConfiguration')
      .textOf('Payer')
      ?.trim()
    if (payer === 'BucketOwner') return { status: 200 }
    if (payer === 'Requester') throw notImplemented('Requester pays')
    throw new StorageError(
      'MALFORMED_XML',
      'The XML you provided was not well-formed or did not validate against our published schema',
    )
  },
}

/** A document that sets nothing, which tools send to take away what they set elsewhere: nothing is set, and nothing changes. */
const putNothing = (name: string, action: string, subresource: string, root: string): Route => ({
  level: 'bucket',
  method: 'PUT',
  subresource,
  operation: {
    name,
    action,
    async handle({ request }) {
      if (!isEmptyDocument(await request.body.text(64 * 1024), root)) throw notImplemented(subresource)
      return { status: 200 }
    },
  },
})

function isEmptyDocument(text: string, root: string): boolean {
  try {
    return parseXml(text, root).children.length === 0
  } catch {
    return false
  }
}

/** What S3 says of an object in a bucket without object lock, and here all buckets are. */
const withoutLock = (
  method: 'GET' | 'PUT',
  name: string,
  action: string,
  subresource: 'retention' | 'legal-hold',
): Route => ({
  level: 'object',
  method,
  subresource,
  operation: {
    name,
    action,
    async handle() {
      throw new StorageError('INVALID_REQUEST', 'Bucket is missing Object Lock Configuration')
    },
  },
})

export const unconfiguredRoutes: readonly Route[] = [
  never(
    'GetBucketLifecycleConfiguration',
    's3:GetLifecycleConfiguration',
    'lifecycle',
    'NO_SUCH_LIFECYCLE',
    'The lifecycle configuration does not exist',
  ),
  never(
    'GetBucketEncryption',
    's3:GetEncryptionConfiguration',
    'encryption',
    'NO_SUCH_ENCRYPTION',
    'The server side encryption configuration was not found',
  ),
  never(
    'GetObjectLockConfiguration',
    's3:GetBucketObjectLockConfiguration',
    'object-lock',
    'NO_SUCH_OBJECT_LOCK',
    'Object Lock configuration does not exist for this bucket',
  ),
  never(
    'GetBucketWebsite',
    's3:GetBucketWebsite',
    'website',
    'NO_SUCH_WEBSITE',
    'The specified bucket does not have a website configuration',
  ),
  empty(
    'GetBucketAccelerateConfiguration',
    's3:GetAccelerateConfiguration',
    'accelerate',
    'AccelerateConfiguration',
  ),
  empty('GetBucketLogging', 's3:GetBucketLogging', 'logging', 'BucketLoggingStatus'),
  empty(
    'GetBucketNotificationConfiguration',
    's3:GetBucketNotification',
    'notification',
    'NotificationConfiguration',
  ),
  emptyList(
    'ListBucketAnalyticsConfigurations',
    's3:GetAnalyticsConfiguration',
    'analytics',
    'ListBucketAnalyticsConfigurationResult',
  ),
  emptyList(
    'ListBucketInventoryConfigurations',
    's3:GetInventoryConfiguration',
    'inventory',
    'ListInventoryConfigurationsResult',
  ),
  emptyList(
    'ListBucketMetricsConfigurations',
    's3:GetMetricsConfiguration',
    'metrics',
    'ListMetricsConfigurationsResult',
  ),
  emptyList(
    'ListBucketIntelligentTieringConfigurations',
    's3:GetIntelligentTieringConfiguration',
    'intelligent-tiering',
    'ListBucketIntelligentTieringConfigurationsOutput',
  ),
  deleteNothing('DeleteBucketLifecycle', 's3:PutLifecycleConfiguration', 'lifecycle'),
  deleteNothing('DeleteBucketEncryption', 's3:PutEncryptionConfiguration', 'encryption'),
  deleteNothing('DeleteBucketWebsite', 's3:DeleteBucketWebsite', 'website'),
  putNothing('PutBucketLogging', 's3:PutBucketLogging', 'logging', 'BucketLoggingStatus'),
  putNothing(
    'PutBucketNotificationConfiguration',
    's3:PutBucketNotification',
    'notification',
    'NotificationConfiguration',
  ),
  withoutLock('GET', 'GetObjectRetention', 's3:GetObjectRetention', 'retention'),
  withoutLock('PUT', 'PutObjectRetention', 's3:PutObjectRetention', 'retention'),
  withoutLock('GET', 'GetObjectLegalHold', 's3:GetObjectLegalHold', 'legal-hold'),
  withoutLock('PUT', 'PutObjectLegalHold', 's3:PutObjectLegalHold', 'legal-hold'),
  { level: 'bucket', method: 'GET', subresource: 'requestPayment', operation: getRequestPayment },
  { level: 'bucket', method: 'PUT', subresource: 'requestPayment', operation: putRequestPayment },
]
