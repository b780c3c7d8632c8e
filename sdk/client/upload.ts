import { unlessAborted } from './aborts.ts'
import { type ChecksumAlgorithm, checksumHeader, checksumOf } from './crc.ts'
import { utf8 } from './encoding.ts'
import { invalidAnswer, invalidArgument, PandoError } from './errors.ts'
import { conditionHeaders, requiredHeader, unquoted } from './object-headers.ts'
import type { CallOptions } from './options.ts'
import { explained, type PutOptions, type PutResult, uploadHeaders } from './put-options.ts'
import type { PutSource } from './put-source.ts'
import type { Sender } from './sender.ts'
import { readToken, type UploadName, type UploadToken, writeToken } from './upload-token.ts'
import { childrenOf, numberOf, parseXml, textOf, xmlElement } from './xml.ts'

/** Multipart uploads: parts in parallel with bounded memory, from the start or from where an earlier call ended. */

export interface MultipartPlan {
  readonly partSize: number
  readonly parallel: number
  readonly algorithm: ChecksumAlgorithm
}

interface StoredPart {
  readonly etag: string
  readonly size: number
  readonly checksum: string
}

type ReadPart = Awaited<ReturnType<PutSource['read']>>

const maxParts = 10_000
/** How long taking back may take: the caller has given up already. */
const cleanUpMs = 10_000

export async function uploadInParts(
  sender: Sender,
  bucket: string,
  key: string,
  source: PutSource,
  first: ReadPart | undefined,
  plan: MultipartPlan,
  options: PutOptions,
): Promise<PutResult> {
  const { token, stored } = await begin(sender, bucket, key, source, plan, options)
  // Of one that is taken back at once nobody needs the token.
  if (options.signal?.aborted !== true) options.onUpload?.(writeToken(token))
  const parts = new PartUploader(sender, token, stored, plan.parallel, source.size, options)
  try {
    let next = first ?? (await parts.unlessEnded(source.read(token.partSize)))
    for (let number = 1; ; number++) {
      await parts.add(number, next)
      if (next.last) break
      if (number === maxParts) throw invalidArgument(`more than ${maxParts} parts: give a larger partSize`)
      next = await parts.unlessEnded(source.read(partSizeOf(token, number + 1)))
    }
    const done = await parts.finish()
    return await complete(sender, token, done, parts.resumedBytes, options)
  } catch (error) {
    await parts.stop()
    const aborted = options.signal?.aborted === true
    if (aborted || options.onUpload === undefined) {
      // Whether it works or not, the caller is to hear why the upload failed.
      await abortUpload(sender, token, { deadlineMs: cleanUpMs }).catch(() => {})
    } else if (error instanceof PandoError) {
      throw error.with({ uploadToken: writeToken(token) })
    }
    throw error
  }
}

/** Of a stream whose length nobody knows the parts grow, so that ten thousand of them are 8 TiB and small ones stay small. */
function partSizeOf(token: UploadToken, number: number): number {
  if (token.size !== undefined) return token.partSize
  return Math.min(token.partSize * 2 ** Math.floor((number - 1) / 1000), 1024 * 1024 * 1024)
}

async function begin(
  sender: Sender,
  bucket: string,
  key: string,
  source: PutSource,
  plan: MultipartPlan,
  options: PutOptions,
): Promise<{ token: UploadToken; stored: ReadonlyMap<number, StoredPart> }> {
  if (options.resume !== undefined) {
    const token = readToken(options.resume)
    if (token.bucket !== bucket || token.key !== key)
      throw invalidArgument(`the token is of an upload to ${token.bucket}/${token.key}`)
    if (token.size !== source.size) throw invalidArgument('the token is of a body of another size')
    try {
      return { token, stored: await listParts(sender, token, options) }
    } catch (error) {
      // Taken back, or completed by a call that did not live to see it: from the start then.
      if (!(error instanceof PandoError && error.code === 'NoSuchUpload')) throw error
    }
  }
  const uploadId = await create(sender, bucket, key, source, plan, options)
  const { partSize, algorithm } = plan
  return { token: { bucket, key, uploadId, partSize, size: source.size, algorithm }, stored: new Map() }
}

/**
 * Answers the id of a new upload. An abort does not cut this request off at once: the server may have begun the upload, and without
 * its id nobody could take it back.
 */
async function create(
  sender: Sender,
  bucket: string,
  key: string,
  source: PutSource,
  plan: MultipartPlan,
  options: PutOptions,
): Promise<string> {
  const { signal } = options
  signal?.throwIfAborted()
  const ender = new AbortController()
  let cancel = (): void => {}
  const onAbort = (): void => {
    cancel = sender.environment.after(cleanUpMs, () => ender.abort(signal?.reason))
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    const { text } = await sender.send({
      operation: 'CreateMultipartUpload',
      method: 'POST',
      bucket,
      key,
      query: { uploads: '' },
      headers: {
        ...uploadHeaders(source, options),
        'x-amz-checksum-algorithm': plan.algorithm,
        'x-amz-checksum-type': 'FULL_OBJECT',
      },
      answer: 'text',
      options: { ...options, signal: ender.signal },
    })
    const uploadId = textOf(parseXml(text), 'UploadId')
    if (uploadId === undefined || uploadId === '') throw invalidAnswer('the upload has no id')
    return uploadId
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  } finally {
    signal?.removeEventListener('abort', onAbort)
    cancel()
  }
}

/** How many bytes of an upload in parts the server has. `NoSuchUpload`. */
export async function uploadedBytes(
  sender: Sender,
  upload: UploadName,
  options: CallOptions,
): Promise<number> {
  const parts = await listParts(sender, upload, options)
  return [...parts.values()].reduce((sum, { size }) => sum + size, 0)
}

async function listParts(
  sender: Sender,
  upload: UploadName & Partial<Pick<UploadToken, 'algorithm'>>,
  options: CallOptions,
): Promise<ReadonlyMap<number, StoredPart>> {
  const found = new Map<number, StoredPart>()
  for (let marker = 0; ; ) {
    const { text } = await sender.send({
      operation: 'ListParts',
      method: 'GET',
      bucket: upload.bucket,
      key: upload.key,
      query: { uploadId: upload.uploadId, 'part-number-marker': `${marker}` },
      answer: 'text',
      options,
    })
    const page = parseXml(text)
    const before = marker
    for (const part of childrenOf(page, 'Part')) {
      const number = numberOf(part, 'PartNumber')
      found.set(number, {
        etag: unquoted(textOf(part, 'ETag') ?? ''),
        size: numberOf(part, 'Size'),
        checksum: textOf(part, `Checksum${upload.algorithm ?? ''}`) ?? '',
      })
      marker = Math.max(marker, number)
    }
    if (textOf(page, 'IsTruncated') !== 'true') return found
    // A server that repeats itself would be asked for ever.
    if (marker === before || found.size > maxParts)
      throw invalidAnswer('a listing of parts goes on with no new part')
  }
}

/** Sends parts, so many at a time; who adds one waits for a free place, so a source is read no faster than it is sent. */
class PartUploader {
  readonly #sender: Sender
  readonly #token: UploadToken
  readonly #stored: ReadonlyMap<number, StoredPart>
  readonly #parallel: number
  readonly #options: PutOptions
  readonly #total: number | undefined
  readonly #done = new Map<number, StoredPart>()
  readonly #running = new Set<Promise<void>>()
  readonly #ender = new AbortController()
  readonly #onAbort: () => void
  #failure: { readonly error: unknown } | undefined
  #loaded = 0
  #added = 0
  resumedBytes = 0

  constructor(
    sender: Sender,
    token: UploadToken,
    stored: ReadonlyMap<number, StoredPart>,
    parallel: number,
    total: number | undefined,
    options: PutOptions,
  ) {
    this.#sender = sender
    this.#token = token
    this.#stored = stored
    this.#parallel = parallel
    this.#options = options
    this.#total = total
    const { signal } = options
    this.#onAbort = () => this.#ender.abort(signal?.reason)
    signal?.addEventListener('abort', this.#onAbort, { once: true })
    if (signal?.aborted === true) this.#onAbort()
  }

  async add(number: number, part: ReadPart): Promise<void> {
    while (this.#running.size >= this.#parallel) await Promise.race(this.#running)
    this.#check()
    this.#added += part.bytes.length
    const work = this.#send(number, part)
      .catch((error: unknown) => {
        // The first one is the cause; what it ends is not.
        this.#failure ??= { error }
        this.#ender.abort(error)
      })
      .finally(() => this.#running.delete(work))
    this.#running.add(work)
  }

  /** What is waited for between two parts: an abort, or the final failure of a part, ends the wait. */
  unlessEnded<T>(work: Promise<T>): Promise<T> {
    return unlessAborted(work, this.#ender.signal)
  }

  async finish(): Promise<ReadonlyMap<number, StoredPart>> {
    await Promise.all(this.#running)
    this.#check()
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    return this.#done
  }

  /** Ends what runs, and waits until it has: nothing is in flight any more when the upload is taken back. */
  async stop(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#ender.abort()
    await Promise.all(this.#running)
  }

  #check(): void {
    this.#options.signal?.throwIfAborted()
    if (this.#failure !== undefined) throw this.#failure.error
  }

  async #send(number: number, { bytes }: ReadPart): Promise<void> {
    const { algorithm, bucket, key, uploadId } = this.#token
    const checksum = checksumOf(algorithm, bytes)
    const before = this.#stored.get(number)
    if (before !== undefined && before.size === bytes.length && before.checksum === checksum) {
      this.resumedBytes += bytes.length
      this.#confirm(number, before)
      return
    }
    const { headers, endpoint } = await this.#sender.send({
      operation: 'UploadPart',
      method: 'PUT',
      bucket,
      key,
      query: { partNumber: `${number}`, uploadId },
      headers: { [checksumHeader(algorithm)]: checksum },
      body: bytes,
      answer: 'text',
      options: { ...this.#options, signal: this.#ender.signal },
    })
    const etag = unquoted(requiredHeader(headers, 'etag', endpoint))
    this.#confirm(number, { etag, size: bytes.length, checksum })
  }

  #confirm(number: number, part: StoredPart): void {
    this.#done.set(number, part)
    this.#loaded += part.size
    if (this.#failure === undefined) this.#options.onProgress?.({ loaded: this.#loaded, total: this.#total })
  }
}

async function complete(
  sender: Sender,
  token: UploadToken,
  parts: ReadonlyMap<number, StoredPart>,
  resumedBytes: number,
  options: PutOptions,
): Promise<PutResult> {
  const numbers = [...parts.keys()].sort((a, b) => a - b)
  let size = 0
  let document = ''
  for (const number of numbers) {
    const part = parts.get(number)
    if (part === undefined) continue
    size += part.size
    document += `<Part>${xmlElement('PartNumber', number)}${xmlElement('ETag', `"${part.etag}"`)}${xmlElement(
      `Checksum${token.algorithm}`,
      part.checksum,
    )}</Part>`
  }
  const answer = await sender
    .send({
      operation: 'CompleteMultipartUpload',
      method: 'POST',
      bucket: token.bucket,
      key: token.key,
      query: { uploadId: token.uploadId },
      headers: {
        ...conditionHeaders(options),
        'content-type': 'application/xml',
        'x-amz-mp-object-size': `${size}`,
        'x-amz-checksum-type': 'FULL_OBJECT',
      },
      body: utf8(
        `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${document}</CompleteMultipartUpload>`,
      ),
      answer: 'text',
      once: true,
      options,
    })
    .catch((error: unknown) => {
      throw explained(error, options)
    })
  const etag = textOf(parseXml(answer.text), 'ETag')
  if (etag === undefined) throw invalidAnswer('the completed upload has no ETag', answer.endpoint.origin)
  return {
    etag: unquoted(etag),
    versionId: answer.headers.get('x-amz-version-id') ?? undefined,
    size,
    resumedBytes,
    token: answer.headers.get('x-pando-token') ?? undefined,
  }
}

/** Takes an upload back: its parts are freed. That it is gone already is as good. */
export async function abortUpload(sender: Sender, upload: UploadName, options: CallOptions): Promise<void> {
  try {
    await sender.send({
      operation: 'AbortMultipartUpload',
      method: 'DELETE',
      bucket: upload.bucket,
      key: upload.key,
      query: { uploadId: upload.uploadId },
      answer: 'text',
      options,
    })
  } catch (error) {
    if (!(error instanceof PandoError && error.code === 'NoSuchUpload')) throw error
  }
}
