import { type PandoAdmin as Admin, PandoAdmin } from '../../../sdk/admin/index.ts'
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
