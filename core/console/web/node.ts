import { type PandoAdmin as Admin, PandoAdmin, PandoError } from '../../../sdk/admin/index.ts'
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
  `/download/${bucket}/${key.split('/').map(encodeURIComponent).join('/')}${versionId === undefined ? '' : `?versionId=${encodeURIComponent(versionId)}`}`

/** What a person is told of an error. */
export function sentence(error: unknown): string {
  if (error instanceof PandoError) {
    // S3 says no more than "Access Denied" of most refusals.
    if (error.code === 'AccessDenied') return 'The access key has no right to do that here.'
    const text = error.message.replace(/^[A-Za-z_]+: /, '')
    return text === '' ? error.code : `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`
  }
  return error instanceof Error ? error.message : String(error)
}

export const isLoggedOut = (error: unknown): boolean => error instanceof PandoError && error.status === 401
