import { z } from 'zod'
import type { ObjectListing } from '../../core/contract/catalog.ts'
import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { ObjectSummary, VersionId } from '../../core/contract/object-model.ts'
import type { RegionTunnels, TunnelStream } from '../../core/contract/tunnel.ts'
import { MessageReader, MessageWriter } from '../framing/messages.ts'
import { decode, encode, expectEnd, expectType, messageType } from '../replication/wire.ts'
import { giveUp } from '../tunnel/topics.ts'

/** The topic `edge`: what an edge asks its hub for its clients. One question for each stream, as msgpack; everything is checked here. */
export const edgeTopic = 'edge'

/** With what the hub knows of who may do what in the bucket; absent: an older one that does not say. */
export type Told<T> = T & { readonly access?: string }

const versionIdBytes = 16
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const name = z.string().min(1).max(255)
const versionId = z
  .instanceof(Uint8Array)
  .refine(({ length }) => length === versionIdBytes)
  .transform((bytes) => new Uint8Array(bytes))
/** A page of S3 has a thousand; a key has 1024 bytes. */
const mostListed = 1000
const key = z.string().max(1024)

export const questionSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('find'),
    bucket: name,
    key: key.min(1),
    version: z.union([z.literal('null'), versionId]).optional(),
  }),
  z.object({
    ...{ kind: z.literal('list'), bucket: name, prefix: key, delimiter: key, after: key },
    limit: count.max(mostListed),
  }),
])
export type EdgeQuestion = z.output<typeof questionSchema>

/** `BucketAccess.tag` at the hub. */
const accessTag = z.string().max(256)

const foundSchema = z.object({
  access: accessTag.optional(),
  /** As an entry of an outbox; absent: there is no such version. */
  entry: z
    .instanceof(Uint8Array)
    .transform((bytes) => new Uint8Array(bytes))
    .optional(),
})

const summary = z
  .object({
    key: key.min(1),
    versionId,
    isNull: z.boolean(),
    owner: z.string().max(255),
    modifiedMs: count,
    byteLength: count,
    etag: z.string().max(1024),
    storageClass: z.string().max(64),
    checksum: z
      .object({
        algorithm: z.enum(['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256']),
        type: z.enum(['FULL_OBJECT', 'COMPOSITE']),
      })
      .optional(),
  })
  .transform(
    ({ checksum, ...told }): ObjectSummary => ({
      ...{ ...told, isLatest: true, deleteMarker: false },
      ...(checksum === undefined ? {} : { checksum }),
    }),
  )

const pageSchema = z
  .object({
    access: accessTag.optional(),
    objects: z.array(summary).max(mostListed),
    commonPrefixes: z.array(key).max(mostListed),
    truncated: z.boolean(),
    next: key.optional(),
  })
  .transform(
    ({ next, access, ...page }): Told<{ readonly page: ObjectListing }> => ({
      page: next === undefined ? page : { ...page, next },
      ...(access === undefined ? {} : { access }),
    }),
  )

export function encodePage(
  { objects, commonPrefixes, truncated, next }: ObjectListing,
  access: string,
): Uint8Array {
  return encode({
    access,
    objects: objects.map((one) => ({
      ...{ key: one.key, versionId: one.versionId, isNull: one.isNull, owner: one.owner, etag: one.etag },
      ...{ modifiedMs: one.modifiedMs, byteLength: one.byteLength, storageClass: one.storageClass },
      ...(one.checksum === undefined
        ? {}
        : { checksum: { algorithm: one.checksum.algorithm, type: one.checksum.type } }),
    })),
    ...{ commonPrefixes, truncated },
    ...(next === undefined ? {} : { next }),
  })
}

export const encodeFound = (entry: Uint8Array | undefined, access: string): Uint8Array =>
  encode(entry === undefined ? { access } : { access, entry })

/** The hub of one bucket behind its tunnel. Rejections are StorageErrors; without a tunnel they come at once. */
export class Hub {
  readonly #tunnels: Pick<RegionTunnels, 'open'>
  readonly #clock: Clock

  constructor(tunnels: Pick<RegionTunnels, 'open'>, clock: Clock) {
    this.#tunnels = tunnels
    this.#clock = clock
  }

  async find(
    region: number,
    bucket: string,
    objectKey: string,
    version: VersionId | 'null' | undefined,
  ): Promise<Told<{ readonly entry?: Uint8Array }>> {
    const question = {
      ...{ kind: 'find', bucket, key: objectKey },
      ...(version === undefined ? {} : { version }),
    }
    const { entry, access } = decode(foundSchema, await this.#ask(region, question))
    return { ...(entry === undefined ? {} : { entry }), ...(access === undefined ? {} : { access }) }
  }

  async list(region: number, bucket: string, query: object): Promise<Told<{ readonly page: ObjectListing }>> {
    return decode(pageSchema, await this.#ask(region, { kind: 'list', bucket, ...query }))
  }

  async #ask(region: number, question: object): Promise<Uint8Array> {
    const over = new AbortController()
    let stream: TunnelStream | undefined
    const exchange = async (): Promise<Uint8Array> => {
      stream = await this.#tunnels.open(region, edgeTopic, over.signal)
      const writer = new MessageWriter(stream.writable)
      await writer.send(messageType.request, encode(question))
      await writer.end()
      const reader = new MessageReader(stream.readable)
      const payload = expectType(await reader.expect(), messageType.answer)
      await expectEnd(reader)
      return payload
    }
    const late = this.#clock.sleep(answerMs, over.signal).then((): never => {
      throw new StorageError('DEADLINE_EXCEEDED', `the hub did not answer within ${answerMs} ms`)
    })
    late.catch(() => undefined)
    const asked = exchange()
    asked.catch(() => undefined)
    try {
      return await Promise.race([asked, late])
    } catch (reason) {
      if (stream !== undefined) void giveUp(stream, 'not wanted any more')
      throw reason
    } finally {
      over.abort(new StorageError('CANCELLED', 'the question is over'))
    }
  }
}

/** A hub that takes longer to say what it has counts as one that cannot be reached: the client gets what the edge holds. */
const answerMs = 5_000
