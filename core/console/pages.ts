import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { extname, join, relative, sep } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { securityHeaders } from './door.ts'

interface Page {
  readonly bytes: Buffer
  /** undefined: not worth it. */
  readonly zipped: Buffer | undefined
  readonly type: string
  readonly tag: string
  /** Its name changes with its content. */
  readonly isImmutable: boolean
}

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}
/** What the build makes is some hundred kilobytes; more is not ours. */
const maxFiles = 200

/**
 * The built front end, read once into memory and found by its exact path: no request reaches the file system, so there is
 * nothing to traverse.
 */
export class Pages {
  readonly #pages: ReadonlyMap<string, Page>

  private constructor(pages: ReadonlyMap<string, Page>) {
    this.#pages = pages
  }

  /** Empty where the front end has not been built. */
  static async read(folder: string): Promise<Pages> {
    const pages = new Map<string, Page>()
    const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
    for (const entry of entries.slice(0, maxFiles)) {
      const type = types[extname(entry.name)]
      if (!entry.isFile() || type === undefined) continue
      const path = join(entry.parentPath, entry.name)
      const bytes = await readFile(path)
      const zipped = await promisify(gzip)(bytes, { level: 9 })
      const name = `/${relative(folder, path).split(sep).join('/')}`
      pages.set(name === '/index.html' ? '/' : name, {
        bytes,
        zipped: zipped.length < bytes.length * 0.9 ? zipped : undefined,
        type,
        tag: `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`,
        isImmutable: name.startsWith('/assets/'),
      })
    }
    return new Pages(pages)
  }

  get isEmpty(): boolean {
    return !this.#pages.has('/')
  }

  /** False: there is no such page. */
  serve(path: string, message: IncomingMessage, response: ServerResponse): boolean {
    const page = this.#pages.get(path)
    if (page === undefined) return false
    const zips =
      page.zipped !== undefined &&
      /(^|[ ,])gzip($|[ ,;])/.test(String(message.headers['accept-encoding'] ?? ''))
    const headers = {
      ...securityHeaders,
      'content-type': page.type,
      etag: page.tag,
      vary: 'accept-encoding',
      'cache-control': page.isImmutable ? 'public, max-age=31536000, immutable' : 'no-cache',
    }
    if (message.headers['if-none-match'] === page.tag) {
      response.writeHead(304, headers).end()
      return true
    }
    const bytes = zips && page.zipped !== undefined ? page.zipped : page.bytes
    response.writeHead(200, {
      ...headers,
      'content-length': bytes.length,
      ...(zips ? { 'content-encoding': 'gzip' } : {}),
    })
    response.end(message.method === 'HEAD' ? undefined : bytes)
    return true
  }
}
