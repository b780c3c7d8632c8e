import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { Random } from '../../kit/random.ts'
import type { S3Client, S3ClientRequest, S3Reply } from '../../kit/s3-client.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'
import { bytesOf, type Content, type Ledger, multipartContent, simpleContent } from './ledger.ts'

const kibibyte = 1024
const mebibyte = 1024 * 1024

/** An upload that was acknowledged and neither completed nor aborted yet. */
export interface OpenUpload {
  readonly key: string
  readonly uploadId: string
  readonly parts: { readonly seed: string; readonly byteLength: number; readonly etag: string }[]
  /** Completion has been sent: it may have happened. */
  completing: boolean
}

export interface Load {
  /** Runs operations one after another until the connection fails. Rejects when the service answers wrongly. */
  run(): Promise<void>
  /** Uploads left open by the end of the last run. */
  readonly uploads: OpenUpload[]
  readonly operations: ReadonlyMap<string, number>
}

export interface LoadOptions {
  readonly name: string
  readonly bucket: string
  readonly client: () => S3Client
  readonly ledger: Ledger
  readonly random: Random
  readonly keyCount: number
}

class Interrupted extends Error {}

/** One client with keys of its own and every kind of write on them. */
export function openLoad({ name, bucket, client, ledger, random, keyCount }: LoadOptions): Load {
  const uploads: OpenUpload[] = []
  const operations = new Map<string, number>()
  let counter = 0

  const keyAt = (index: number): string => `${name}/${index % 3 === 0 ? 'deep/er/' : ''}key-${index}`
  const anyKey = (): string => keyAt(random.below(keyCount))
  const current = (key: string): Content | null => {
    const [value, ...rest] = ledger.possible(key)
    assert.equal(rest.length, 0, `${key} is undecided although nothing is in flight`)
    return value ?? null
  }
  const existing = (): string | undefined => {
    const keys = Array.from({ length: keyCount }, (_, index) => keyAt(index)).filter((key) => current(key))
    return keys.length === 0 ? undefined : random.pick(keys)
  }
  const freshSeed = (): string => `${random.seed}/${name}/${counter++}`
  const anySize = (): number => {
    const dice = random.next()
    if (dice < 0.45) return random.below(4 * kibibyte + 1)
    if (dice < 0.85) return random.below(300 * kibibyte)
    return mebibyte + random.below(5 * mebibyte)
  }

  const send = async (request: Omit<S3ClientRequest, 'bucket'>): Promise<S3Reply> => {
    let reply: S3Reply
    try {
      reply = await client().send({ bucket, ...request })
    } catch {
      throw new Interrupted()
    }
    // Not as the message of an assertion: the text of each body of some MiB would be made and thrown away.
    if (reply.status >= 500)
      assert.fail(`${request.method} ${request.key} was answered ${reply.status} ${reply.body}`)
    return reply
  }
  /** Sends a write whose success makes `value` the content of `key`. */
  const write = async (
    key: string,
    value: Content | null,
    request: Omit<S3ClientRequest, 'bucket'>,
  ): Promise<S3Reply> => {
    ledger.begin(key, value)
    const reply = await send({ key, ...request })
    if (reply.status < 300) ledger.acknowledge(key, value)
    else ledger.refuse(key, value)
    return reply
  }
  const expectSuccess = (reply: S3Reply): void => {
    if (reply.status < 200 || reply.status >= 300) assert.fail(`${reply.status} ${reply.body}`)
  }

  const steps: Record<string, { weight: number; step: () => Promise<void> }> = {
    put: {
      weight: 30,
      step: async () => {
        const key = anyKey()
        const value = simpleContent(freshSeed(), anySize())
        const reply = await write(key, value, { method: 'PUT', body: bytesOf(value) })
        expectSuccess(reply)
        assert.equal(reply.headers.etag, `"${value.etag}"`)
      },
    },
    multipart: {
      weight: 3,
      step: async () => {
        const key = anyKey()
        const created = await send({ method: 'POST', key, query: { uploads: '' } })
        expectSuccess(created)
        const uploadId = /<UploadId>([^<]+)</.exec(created.body.toString())?.[1] ?? ''
        const upload: OpenUpload = { key, uploadId, parts: [], completing: false }
        uploads.push(upload)
        const sizes = [5 * mebibyte, ...(random.next() < 0.5 ? [5 * mebibyte + random.below(99_999)] : [])]
        sizes.push(random.below(mebibyte) + 1)
        for (const byteLength of sizes) {
          const seed = freshSeed()
          const part = await send({
            method: 'PUT',
            key,
            query: { partNumber: `${upload.parts.length + 1}`, uploadId },
            body: seededBytes(seed, 0, byteLength),
          })
          expectSuccess(part)
          upload.parts.push({ seed, byteLength, etag: part.headers.etag ?? '' })
        }
        upload.completing = true
        expectSuccess(await write(key, multipartContent(upload.parts), completion(upload)))
        uploads.splice(uploads.indexOf(upload), 1)
      },
    },
    delete: {
      weight: 10,
      step: async () => {
        expectSuccess(await write(anyKey(), null, { method: 'DELETE' }))
      },
    },
    'multi-delete': {
      weight: 3,
      step: async () => {
        const keys = [...new Set([anyKey(), anyKey(), anyKey(), anyKey()])]
        for (const key of keys) ledger.begin(key, null)
        const body = `<Delete>${keys.map((key) => `<Object><Key>${key}</Key></Object>`).join('')}</Delete>`
        const reply = await send({ method: 'POST', query: { delete: '' }, body, headers: md5Header(body) })
        expectSuccess(reply)
        assert.doesNotMatch(reply.body.toString(), /<Error>/)
        for (const key of keys) ledger.acknowledge(key, null)
      },
    },
    copy: {
      weight: 8,
      step: async () => {
        const source = existing()
        const key = anyKey()
        if (source === undefined || source === key) return
        const original = current(source)
        assert.ok(original)
        // A copy is one object whatever its source was (an upload of one part too): the ETag is the MD5 of the whole.
        const value = original.etag.includes('-')
          ? { ...original, etag: simpleEtag(bytesOf(original)) }
          : original
        expectSuccess(
          await write(key, value, {
            method: 'PUT',
            headers: { 'x-amz-copy-source': `/${bucket}/${source}` },
          }),
        )
      },
    },
    'create once': {
      weight: 6,
      step: async () => {
        const key = anyKey()
        const before = current(key)
        const value = simpleContent(freshSeed(), anySize())
        const reply = await write(key, value, {
          method: 'PUT',
          headers: { 'if-none-match': '*' },
          body: bytesOf(value),
        })
        assert.equal(reply.status, before === null ? 200 : 412, `${key} ${reply.body}`)
      },
    },
    'replace what was read': {
      weight: 6,
      step: async () => {
        const key = existing()
        if (key === undefined) return
        const wrong = random.next() < 0.3
        const etag = wrong ? '"00000000000000000000000000000000"' : `"${current(key)?.etag}"`
        const value = simpleContent(freshSeed(), anySize())
        const reply = await write(key, value, {
          method: 'PUT',
          headers: { 'if-match': etag },
          body: bytesOf(value),
        })
        assert.equal(reply.status, wrong ? 412 : 200, `${key} ${reply.body}`)
      },
    },
    get: {
      weight: 12,
      step: async () => {
        const key = anyKey()
        assertServes(key, current(key), await send({ method: 'GET', key }))
      },
    },
    range: {
      weight: 5,
      step: async () => {
        const key = existing()
        if (key === undefined) return
        const value = current(key)
        assert.ok(value)
        if (value.byteLength === 0) return
        const from = random.below(value.byteLength)
        const to = Math.min(value.byteLength - 1, from + random.below(mebibyte))
        const reply = await send({ method: 'GET', key, headers: { range: `bytes=${from}-${to}` } })
        assert.equal(reply.status, 206)
        assert.ok(reply.body.equals(bytesOf(value).subarray(from, to + 1)), `${key} ${from}-${to}`)
      },
    },
    list: {
      weight: 4,
      step: async () => {
        const reply = await send({ method: 'GET', query: { 'list-type': '2', prefix: `${name}/` } })
        expectSuccess(reply)
        const listed = parseListing(reply.body.toString())
        for (let index = 0; index < keyCount; index++) {
          assert.equal(listed.get(keyAt(index))?.etag, current(keyAt(index))?.etag, keyAt(index))
        }
      },
    },
  }
  const names = Object.entries(steps).flatMap(([step, { weight }]) => Array<string>(weight).fill(step))

  return {
    uploads,
    operations,
    async run() {
      for (;;) {
        const step = random.pick(names)
        try {
          await steps[step]?.step()
        } catch (reason) {
          if (reason instanceof Interrupted) return
          throw reason
        }
        operations.set(step, (operations.get(step) ?? 0) + 1)
      }
    },
  }
}

export function completion(upload: OpenUpload): Omit<S3ClientRequest, 'bucket'> {
  const parts = upload.parts.map(
    ({ etag }, index) => `<Part><PartNumber>${index + 1}</PartNumber><ETag>${etag}</ETag></Part>`,
  )
  return {
    method: 'POST',
    query: { uploadId: upload.uploadId },
    body: `<CompleteMultipartUpload>${parts.join('')}</CompleteMultipartUpload>`,
  }
}

/** The answer to a GET is exactly the value, or NoSuchKey where there is none. */
export function assertServes(key: string, value: Content | null, reply: S3Reply): void {
  if (value === null) {
    assert.equal(reply.status, 404, `${key} was deleted and is served (${reply.headers.etag})`)
    assert.equal(reply.code, 'NoSuchKey')
    return
  }
  assert.equal(
    reply.status,
    200,
    `${key} (${value.byteLength} bytes) is answered ${reply.status} ${reply.code}`,
  )
  assert.equal(reply.headers.etag, `"${value.etag}"`, `${key} has another version`)
  assert.ok(reply.body.equals(bytesOf(value)), `${key} has wrong bytes`)
}

export interface Listed {
  readonly etag: string
  readonly byteLength: number
}

/** Key -> ETag (without quotes) and size, of one page of a listing of plain keys. */
export function parseListing(xml: string): Map<string, Listed> {
  const listed = new Map<string, Listed>()
  for (const [, entry = ''] of xml.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
    const field = (name: string): string => new RegExp(`<${name}>([^<]*)</${name}>`).exec(entry)?.[1] ?? ''
    listed.set(field('Key'), {
      etag: field('ETag').replaceAll('&quot;', '').replaceAll('"', ''),
      byteLength: Number(field('Size')),
    })
  }
  return listed
}

function simpleEtag(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex')
}

function md5Header(body: string): Record<string, string> {
  return { 'content-md5': createHash('md5').update(body).digest('base64') }
}
