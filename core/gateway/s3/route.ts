import { StorageError } from '../../contract/errors.ts'
import { notImplemented } from './errors.ts'
import type { Operation, S3Request } from './operation.ts'

/**
 * From method, level and sub-resource to the operation.
 *
 * To add an operation: export an `Operation` from the file of its family, and add a row
 * `{ level, method, subresource?, when?, operation }` to the family's `Route[]`, which `operations.ts` puts into the one
 * table. `when` tells two operations of the same row apart (CopyObject is PutObject with x-amz-copy-source): rows with
 * `when` are asked first. A sub-resource that is new to S3 also goes into `subresources` below; one that is listed there
 * and has no row answers NotImplemented, so nothing is ever a fake success.
 */
export interface Route {
  readonly level: 'service' | 'bucket' | 'object'
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE' | 'OPTIONS'
  /** Query parameter that selects the operation, such as `acl` or `uploadId`. */
  readonly subresource?: string
  readonly when?: (request: S3Request) => boolean
  readonly operation: Operation
}

/** Every query parameter that selects another operation (as opposed to modifying one): those of the S3 API, and one of ours. */
const subresources: Readonly<Record<Route['level'], readonly string[]>> = {
  service: ['pando-topology'],
  bucket: [
    'abac',
    'accelerate',
    'acl',
    'analytics',
    'cors',
    'delete',
    'encryption',
    'intelligent-tiering',
    'inventory',
    'lifecycle',
    'list-type',
    'location',
    'logging',
    'metadataConfiguration',
    'metadataInventoryTable',
    'metadataJournalTable',
    'metadataTable',
    'metrics',
    'notification',
    'object-lock',
    'ownershipControls',
    'policy',
    'policyStatus',
    'publicAccessBlock',
    'replication',
    'requestPayment',
    'session',
    'tagging',
    'uploads',
    'versioning',
    'versions',
    'website',
  ],
  object: [
    'acl',
    'append',
    'attributes',
    'encryption',
    'legal-hold',
    'object-lock',
    'renameObject',
    'restore',
    'retention',
    'select',
    'tagging',
    'torrent',
    'uploadId',
    'uploads',
  ],
}

const known = {
  service: new Set(subresources.service),
  bucket: new Set(subresources.bucket),
  object: new Set(subresources.object),
}

/** Whether a query parameter of that name selects another operation somewhere. */
export function isSubresource(name: string): boolean {
  return known.service.has(name) || known.bucket.has(name) || known.object.has(name)
}

/** What SDKs send that put the bucket into the host name unasked, to a service that knows of no such names. */
const hostHint =
  ' If the host name was to name a bucket: use path style, or set the domain of such names in s3.domains.'

export type Router = (request: S3Request) => Operation

/** Throws NOT_IMPLEMENTED or METHOD_NOT_ALLOWED when there is no such operation. */
export function createRouter(routes: readonly Route[]): Router {
  const table = new Map<string, Route[]>()
  for (const route of routes) {
    if (route.subresource !== undefined && !known[route.level].has(route.subresource)) {
      throw new RangeError(`${route.subresource} is not a known sub-resource of a ${route.level}`)
    }
    const name = rowName(route.level, route.method, route.subresource)
    const rows = table.get(name) ?? []
    const twin = rows.find((row) => row.when === undefined)
    if (route.when === undefined && twin !== undefined) {
      throw new RangeError(`${route.operation.name} and ${twin.operation.name} have the same row`)
    }
    if (route.when === undefined) rows.push(route)
    else rows.unshift(route)
    table.set(name, rows)
  }

  return (request) => {
    const level =
      request.bucketName === undefined ? 'service' : request.key === undefined ? 'bucket' : 'object'
    const subresource = request.query.size === 0 ? undefined : subresourceOf(request, level)
    const rows = table.get(rowName(level, request.method, subresource))
    if (rows !== undefined) {
      for (const row of rows) if (row.when === undefined || row.when(request)) return row.operation
    }
    if (subresource !== undefined) throw notImplemented(subresource)
    throw new StorageError(
      'METHOD_NOT_ALLOWED',
      `The specified method is not allowed against this resource.${level === 'service' ? hostHint : ''}`,
      { details: { Method: request.method, ResourceType: level.toUpperCase() } },
    )
  }
}

function subresourceOf(request: S3Request, level: Route['level']): string | undefined {
  const names = known[level]
  // A preflight asks about the resource, whatever the query.
  if (request.method === 'OPTIONS') return undefined
  for (const name of request.query.keys()) if (names.has(name)) return name
  return undefined
}

const rowName = (level: string, method: string, subresource: string | undefined): string =>
  subresource === undefined ? `${level} ${method}` : `${level} ${method} ${subresource}`
