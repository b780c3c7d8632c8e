import type { IncomingMessage } from 'node:http'
import { StorageError } from '../contract/errors.ts'

/** `/s3/bucket/key?query` as the gateway's own target: the rest stays as it was sent, since keys are only names. */
export function objectTarget({ url = '' }: IncomingMessage): string {
  return url.slice('/s3'.length)
}

/**
 * `/download/bucket/key[?versionId=…]` as a GET that answers with an attachment of unknown type, so that a browser saves it
 * and never shows it. INVALID_URI.
 */
export function downloadTarget({ url = '' }: IncomingMessage): string {
  const [path = '', query = ''] = url.slice('/download'.length).split('?', 2)
  const name = lastName(path)
  const versionId = new URLSearchParams(query).get('versionId')
  const asked = new URLSearchParams({
    'response-content-disposition': `attachment; filename*=UTF-8''${encodeName(name)}`,
    'response-content-type': 'application/octet-stream',
    ...(versionId === null ? {} : { versionId }),
  })
  return `${path}?${asked.toString()}`
}

function lastName(path: string): string {
  try {
    // Decoded first: slashes of keys with `.` and `..` in them travel escaped.
    return (
      decodeURIComponent(path)
        .split('/')
        .findLast((part) => part !== '') ?? ''
    )
  } catch (error) {
    throw new StorageError('INVALID_URI', 'the path is not escaped as it should be', { cause: error })
  }
}

/** RFC 8187: of what encodeURIComponent leaves, these are not allowed. */
const encodeName = (name: string): string =>
  encodeURIComponent(name).replace(/['()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`)
