import assert from 'node:assert/strict'
import type { Random } from '../../kit/random.ts'
import type { S3Client, S3Reply } from '../../kit/s3-client.ts'
import { bytesOf, type Content, simpleContent } from './ledger.ts'

/** A client of a versioned bucket: every version id that it was given must stay readable until it deletes it. */
export interface VersionedLoad {
  /** Until the connection fails. */
  run(): Promise<void>
  /** After a restart: compares every version with what was acknowledged. */
  verify(): Promise<void>
}

type Version = Content | 'marker'

export function openVersionedLoad(
  bucket: string,
  client: () => S3Client,
  random: Random,
  keyCount: number,
): VersionedLoad {
  const acknowledged = new Map<string, { key: string; version: Version }>()
  /** Newest acknowledged version of a key. */
  const newest = new Map<string, string>()
  /** Sent and not answered. */
  let inFlight: { key: string; add?: Version; remove?: string } | undefined
  let counter = 0

  const attempt = async (
    flight: NonNullable<typeof inFlight>,
    method: string,
    query: Record<string, string>,
    body?: Uint8Array,
  ): Promise<S3Reply | undefined> => {
    inFlight = flight
    const reply = await client()
      .send({ bucket, key: flight.key, method, query, ...(body === undefined ? {} : { body }) })
      .catch(() => undefined)
    if (reply === undefined) return undefined
    assert.ok(reply.status < 300, `${method} ${flight.key}: ${reply.status} ${reply.body}`)
    inFlight = undefined
    return reply
  }

  return {
    async run() {
      for (;;) {
        const key = `v/${random.below(keyCount)}`
        const dice = random.next()
        const ids = [...acknowledged.keys()]
        if (dice < 0.6) {
          const version = simpleContent(`${random.seed}/versions/${counter++}`, random.below(20_000))
          const reply = await attempt({ key, add: version }, 'PUT', {}, bytesOf(version))
          if (!reply) return
          const id = String(reply.headers['x-amz-version-id'])
          acknowledged.set(id, { key, version })
          newest.set(key, id)
        } else if (dice < 0.8 || ids.length < 20) {
          const reply = await attempt({ key, add: 'marker' }, 'DELETE', {})
          if (!reply) return
          assert.equal(reply.headers['x-amz-delete-marker'], 'true')
          const id = String(reply.headers['x-amz-version-id'])
          acknowledged.set(id, { key, version: 'marker' })
          newest.set(key, id)
        } else {
          const id = random.pick(ids)
          const entry = acknowledged.get(id)
          assert.ok(entry)
          const reply = await attempt({ key: entry.key, remove: id }, 'DELETE', { versionId: id })
          if (!reply) return
          acknowledged.delete(id)
          if (newest.get(entry.key) === id) newest.delete(entry.key)
        }
      }
    },
    async verify() {
      const listed = new Map<string, { key: string; marker: boolean; latest: boolean; etag: string }>()
      let markers: Record<string, string> = {}
      for (let more = true; more; ) {
        const reply = await client().send({
          method: 'GET',
          bucket,
          query: { versions: '', 'max-keys': '89', ...markers },
        })
        assert.equal(reply.status, 200, `${reply.body}`)
        const text = reply.body.toString()
        for (const [, tag, entry = ''] of text.matchAll(/<(Version|DeleteMarker)>(.*?)<\/\1>/gs)) {
          const field = (name: string): string => new RegExp(`<${name}>([^<]*)<`).exec(entry)?.[1] ?? ''
          const etag = field('ETag').replaceAll('&quot;', '').replaceAll('"', '')
          listed.set(field('VersionId'), {
            key: field('Key'),
            marker: tag === 'DeleteMarker',
            latest: field('IsLatest') === 'true',
            etag,
          })
        }
        more = text.includes('<IsTruncated>true<')
        markers = {
          'key-marker': /<NextKeyMarker>([^<]*)</.exec(text)?.[1] ?? '',
          'version-id-marker': /<NextVersionIdMarker>([^<]*)</.exec(text)?.[1] ?? '',
        }
      }
      if (inFlight?.remove !== undefined && !listed.has(inFlight.remove)) {
        acknowledged.delete(inFlight.remove)
        if (newest.get(inFlight.key) === inFlight.remove) newest.delete(inFlight.key)
      }
      for (const [id, seen] of listed) {
        if (acknowledged.has(id)) continue
        const added = inFlight?.add
        assert.ok(
          added !== undefined && inFlight?.key === seen.key,
          `version ${id} of ${seen.key} was never written`,
        )
        assert.equal(seen.etag, added === 'marker' ? '' : added.etag)
        acknowledged.set(id, { key: seen.key, version: added })
        newest.set(seen.key, id)
        inFlight = undefined // one request was in flight: a second unknown version is a fault
      }
      inFlight = undefined
      for (const [id, { key, version }] of acknowledged) {
        const seen = listed.get(id)
        assert.ok(seen, `version ${id} of ${key} was acknowledged and is gone`)
        assert.equal(seen.key, key)
        assert.equal(seen.marker, version === 'marker')
        if (newest.has(key)) assert.equal(seen.latest, newest.get(key) === id, `latest of ${key}`)
        if (version === 'marker') continue
        const reply = await client().send({ method: 'GET', bucket, key, query: { versionId: id } })
        assert.equal(reply.status, 200)
        assert.ok(reply.body.equals(bytesOf(version)), `version ${id} of ${key} has wrong bytes`)
      }
    },
  }
}
