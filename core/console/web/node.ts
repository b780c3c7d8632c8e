import { type PandoAdmin as Admin, PandoAdmin } from '../../../sdk/admin/index.ts'
import { keyPath } from '../../../sdk/client/encoding.ts'
import { webEnvironment } from '../../../sdk/client/environment.ts'
import { PandoClient } from '../../../sdk/index.ts'

/** Whom the page belongs to; empty: nobody yet. Another page may have changed the browser's session meanwhile. */
let pageKey = ''

/** From now on the page's requests are of this key only: under a session of another one the node refuses them. */
export const belongTo = (accessKeyId: string): void => {
  pageKey = accessKeyId
}

const asked = (headers: RequestInit['headers'], accessKeyId: string): Record<string, string> => ({
  ...(headers as Record<string, string>),
  ...(accessKeyId === '' ? {} : { 'x-pando-console-key': accessKeyId }),
})

/** The node that has served this page. */
export const admin: Admin = new PandoAdmin({
  endpoint: location.origin,
  environment: {
    ...webEnvironment,
    fetch: (url, init) => fetch(url, { ...init, headers: asked(init.headers, pageKey) }),
  },
})

/** Objects as that key and no other, for what may outlive its session. */
export const objectsAs = (accessKeyId: string): PandoClient => openObjects(() => accessKeyId)

/** Objects as whoever the page belongs to. */
export const objects: PandoClient = openObjects(() => pageKey)

/**
 * Objects, over the console's own origin: the session says who asks, so no secret comes into the page. Paths are those of S3
 * behind `/s3`.
 */
function openObjects(keyOf: () => string): PandoClient {
  return new PandoClient({
    endpoints: [location.origin],
    environment: {
      ...webEnvironment,
      fetch(url, init) {
        const { pathname, search } = new URL(url)
        const headers = { ...asked(init.headers, keyOf()), 'x-pando-console': '1' }
        return fetch(`/s3${pathname}${search}`, { ...init, headers, credentials: 'same-origin' })
      },
    },
  })
}

export const now = (): number => webEnvironment.now()

export const downloadPath = (bucket: string, key: string, versionId?: string): string =>
  `/download/${bucket}/${keyPath(key)}${versionId === undefined ? '' : `?versionId=${encodeURIComponent(versionId)}`}`
