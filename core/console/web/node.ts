import { type PandoAdmin as Admin, PandoAdmin, PandoError } from '../../../sdk/admin/index.ts'
import { keyPath } from '../../../sdk/client/encoding.ts'
import { webEnvironment } from '../../../sdk/client/environment.ts'
import { PandoClient } from '../../../sdk/index.ts'

/** The node that has served this page. */
export const admin: Admin = new PandoAdmin({ endpoint: location.origin })

/**
 * Objects, over the console's own origin: the session says who asks, so no key comes into the page. Paths are those of S3
 * behind `/s3`.
 */
export const objects: PandoClient = new PandoClient({
  endpoints: [location.origin],
  environment: {
    ...webEnvironment,
    fetch(url, init) {
      const { pathname, search } = new URL(url)
      const headers = { ...(init.headers as Record<string, string>), 'x-pando-console': '1' }
      return fetch(`/s3${pathname}${search}`, { ...init, headers, credentials: 'same-origin' })
    },
  },
})

export const now = (): number => webEnvironment.now()

export const downloadPath = (bucket: string, key: string, versionId?: string): string =>
  `/download/${bucket}/${keyPath(key)}${versionId === undefined ? '' : `?versionId=${encodeURIComponent(versionId)}`}`

/** Where the words of S3, or of the browser, would leave a person alone. */
const knownErrors: ReadonlyMap<string, string> = new Map([
  ['AccessDenied', 'The access key has no right to do that here.'],
  ['NoSuchBucket', 'There is no such bucket.'],
  ['BucketAlreadyExists', 'The name is taken: another account has a bucket of that name.'],
  ['BucketNotEmpty', 'The bucket is not empty. Older versions and delete markers count, too.'],
  ['BUCKET_NOT_EMPTY', 'The bucket is not empty. Older versions and delete markers count, too.'],
  [
    'InvalidTag',
    'Of the tags one is not allowed: names and values have letters, digits, spaces and + - = . _ : / @ only, and no name begins with aws:.',
  ],
  ['NetworkError', 'The node cannot be reached.'],
  ['AttemptTimeout', 'The node has not answered in time.'],
  ['DeadlineExceeded', 'The node has not answered in time.'],
])

/** What a person is told of an error. */
export function sentence(error: unknown): string {
  if (error instanceof PandoError) {
    const known = knownErrors.get(error.code)
    if (known !== undefined) return known
    // The code in front and the S3 operation at the end say something to programmers.
    const text = error.message.replace(/^[A-Za-z_]+: /, '').replace(/ \([A-Z][A-Za-z0-9]+\)$/, '')
    return text === '' ? error.code : `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`
  }
  return error instanceof Error ? error.message : String(error)
}

export const isLoggedOut = (error: unknown): boolean => error instanceof PandoError && error.status === 401
