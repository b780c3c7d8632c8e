import { readToken, type UploadToken } from '../../../sdk/client/upload-token.ts'

/**
 * Uploads in parts outlive the page that sends them: the browser's storage has what they are gone on with, and under which file.
 * No secret is in it, and of the file nothing but its name and date.
 */
export interface KeptUpload {
  /** Whose session has begun it; nobody else is shown it. */
  readonly accessKeyId: string
  /** For the SDK to go on with. */
  readonly token: string
  readonly fileName: string
  readonly lastModifiedMs: number
  readonly begunMs: number
}

export interface FoundUpload extends KeptUpload {
  readonly upload: UploadToken
}

const prefix = 'pando-upload '
/** Files go one after the other, so there are few. The oldest is forgotten; the node lists it still. */
const keptMost = 64

/** Pages that are no secure context cannot find out what other pages are doing: there nothing is kept. */
const canKeep = (): boolean => 'locks' in navigator

export function keepUpload(kept: KeptUpload): void {
  if (!canKeep()) return
  try {
    const { uploadId } = readToken(kept.token)
    const others = all().toSorted((one, other) => one.begunMs - other.begunMs)
    const oldest = others.length < keptMost ? undefined : others[0]
    if (oldest !== undefined) forgetUpload(oldest.upload.uploadId)
    localStorage.setItem(`${prefix}${uploadId}`, JSON.stringify(kept))
  } catch {
    // A browser may refuse to keep anything: the upload goes on as long as the page.
  }
}

export function forgetUpload(uploadId: string): void {
  try {
    localStorage.removeItem(`${prefix}${uploadId}`)
  } catch {
    // Then it was not kept either.
  }
}

/** All that is kept for that key, by whichever page. */
export function keptUploads(accessKeyId: string): readonly FoundUpload[] {
  if (!canKeep()) return []
  try {
    return all().filter((found) => found.accessKeyId === accessKeyId)
  } catch {
    return []
  }
}

const all = (): readonly FoundUpload[] =>
  Object.keys(localStorage)
    .filter((name) => name.startsWith(prefix))
    .flatMap((name) => parse(localStorage.getItem(name) ?? '') ?? [])

/** Tells when another page has kept something. */
export function onKept(listener: () => void): void {
  addEventListener('storage', ({ key }) => {
    if (key?.startsWith(prefix) === true) listener()
  })
}

/** Storage has what anything of this origin has put there, of whatever version. */
function parse(text: string): FoundUpload | undefined {
  try {
    const value = JSON.parse(text) as Record<string, unknown>
    const { accessKeyId, token, fileName, lastModifiedMs, begunMs } = value
    if (
      typeof accessKeyId !== 'string' ||
      typeof token !== 'string' ||
      typeof fileName !== 'string' ||
      typeof lastModifiedMs !== 'number' ||
      typeof begunMs !== 'number'
    )
      return undefined
    return { accessKeyId, token, fileName, lastModifiedMs, begunMs, upload: readToken(token) }
  } catch {
    return undefined
  }
}

/**
 * Resolves when no other page of this browser has the upload, which may be when that one is closed or at once, with what lets it go. Rejects
 * when `signal` ends the wait.
 */
export function claimUpload(uploadId: string, signal: AbortSignal): Promise<() => void> {
  if (!canKeep()) return Promise.resolve(() => undefined)
  return new Promise((resolve, reject) => {
    navigator.locks
      .request(`${prefix}${uploadId}`, { signal }, () => new Promise<void>((release) => resolve(release)))
      .catch(reject)
  })
}
