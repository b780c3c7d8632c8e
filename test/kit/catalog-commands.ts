import { randomFillSync } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command, NewObject, Preconditions } from '../../core/contract/catalog.ts'
import type { Environment } from '../../core/contract/clock.ts'
import type { WriteId } from '../../core/contract/ids.ts'
import type { Extent, ObjectAttributes } from '../../core/contract/object-model.ts'

/** Short ways to say catalog commands in tests. */
export const realEnvironment: Environment = {
  clock: {
    now: () => Date.now(),
    monotonic: () => performance.now(),
    sleep: (delayMs, signal) => sleep(delayMs, undefined, signal === undefined ? {} : { signal }),
  },
  randomness: { fill: (target) => randomFillSync(target) },
}

export const plainAttributes: ObjectAttributes = {
  contentType: 'binary/octet-stream',
  systemHeaders: {},
  userMetadata: {},
  storageClass: 'STANDARD',
  tags: {},
}

/** A plain MD5 ETag that is as good as any. */
export const etagOf = (seed: number): string => seed.toString(16).padStart(32, '0')

export function emptyObject(etag = etagOf(0)): NewObject {
  return { byteLength: 0, etag, attributes: plainAttributes, layout: { kind: 'empty' } }
}

export function inlineObject(writeId: WriteId, body: Uint8Array, etag = etagOf(0)): NewObject {
  return {
    byteLength: body.length,
    etag,
    attributes: plainAttributes,
    layout: { kind: 'inline', writeId },
    inline: body,
  }
}

export const extentOf = (writeId: WriteId, byteLength: number, chunkBytes = 1024): Extent => ({
  writeId,
  chunkBytes,
  byteLength,
})

export function chunkedObject(extent: Extent, etag = etagOf(0)): NewObject {
  return {
    byteLength: extent.byteLength,
    etag,
    attributes: plainAttributes,
    layout: { kind: 'chunks', extents: [extent] },
  }
}

export function putCommand(
  bucketId: number,
  key: string,
  object: NewObject,
  preconditions?: Preconditions,
): Extract<Command, { type: 'put-object' }> {
  const command = { type: 'put-object', bucketId, key, owner: 'root', object } as const
  return preconditions === undefined ? command : { ...command, preconditions }
}

/** The command with which a client deletes. */
export const removal = (
  bucketId: number,
  item: Extract<Command, { type: 'delete-objects' }>['items'][number],
): Command => ({ type: 'delete-objects', bucketId, owner: 'root', items: [item] })
