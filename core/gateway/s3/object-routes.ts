import { copyObject } from './copy-object.ts'
import { isCopy } from './copy-source.ts'
import { deleteObject, deleteObjects } from './delete-object.ts'
import { getObject, headObject } from './get-object.ts'
import { putObject } from './put-object.ts'
import type { Route } from './route.ts'

export const objectRoutes: readonly Route[] = [
  { level: 'object', method: 'GET', operation: getObject },
  { level: 'object', method: 'HEAD', operation: headObject },
  { level: 'object', method: 'PUT', operation: putObject },
  {
    level: 'object',
    method: 'PUT',
    when: isCopy,
    operation: copyObject,
  },
  { level: 'object', method: 'DELETE', operation: deleteObject },
  { level: 'bucket', method: 'POST', subresource: 'delete', operation: deleteObjects },
]
