import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NodeProcess } from '../../kit/node-process.ts'
import type { RegionNode } from '../../kit/region/region.ts'
import type { S3Client, S3Reply } from '../../kit/s3-client.ts'
import { say, until } from './scenario.ts'

/** A bucket of no failover group, copied to another region of one node. */
export const wishedBucket = 'wished'
const sync = { 'x-pando-replication': 'sync' }

/** At any gateway of a region of several nodes: what asks to be in another region before it is answered. */
export interface Wishes {
  /** That every gateway, whichever node talks to the other region, keeps it; and says so while the other region stands still. */
  check(): Promise<void>
  /** Writes at every gateway until `stop`, and looks into the other region after each. */
  start(): void
  /** Acknowledged at a gateway since then. */
  since(atMs: number, gateway: string): boolean
  /** Resolves with how many were acknowledged; rejects when one of them was not in the other region, or has other bytes. */
  stop(): Promise<number>
  /** No more writes; nothing is looked at. */
  end(): void
}

export function openWishes(gateways: readonly RegionNode[], other: NodeProcess, there: S3Client): Wishes {
  const bucket = wishedBucket
  const acknowledged: { readonly gateway: string; readonly key: string; readonly atMs: number }[] = []
  const absent: string[] = []
  let isOver = false
  let running: Promise<unknown> = Promise.resolve()

  const put = (node: RegionNode, key: string, headers: Readonly<Record<string, string>> = {}) =>
    node.client.send({ method: 'PUT', bucket, key, body: key, headers: { ...sync, ...headers } })
  const get = (client: S3Client, key: string): Promise<S3Reply> => client.send({ method: 'GET', bucket, key })

  async function write(node: RegionNode): Promise<void> {
    for (let turn = 0; !isOver; turn++) {
      const key = `${node.name}/${turn}`
      const sent = put(node, key).then(
        async ({ status }) => {
          if (status !== 200) return false
          acknowledged.push({ gateway: node.name, key, atMs: performance.now() })
          const { status: found, body } = await get(there, key)
          if (found !== 200 || `${body}` !== key) absent.push(`${key}: ${found}`)
          return true
        },
        () => false,
      )
      // A gateway that stands still is asked again: what it answers when it wakes counts as well.
      const isDone = await Promise.race([sent, sleep(1_000, false)])
      await sleep(isDone ? 50 : 500)
    }
  }

  return {
    async check() {
      for (const node of gateways) {
        for (const body of [randomBytes(100), randomBytes(300_000)]) {
          const key = `first/${node.name}/${body.length}`
          const answer = await node.client.send({ method: 'PUT', bucket, key, body, headers: sync })
          assert.equal(answer.status, 200, `${node.name}: ${answer.body}`)
          assert.equal(answer.headers['x-pando-replication'], 'sync')
          const copy = await get(there, key)
          assert.ok(copy.status === 200 && copy.body.equals(body), `${key}: ${copy.status}`)
        }
      }
      process.kill(other.pid, 'SIGSTOP')
      try {
        await Promise.all(
          gateways.map(async (node) => {
            const once = { 'x-pando-idempotency-key': `late-${node.name}`, 'x-pando-wait-ms': '1500' }
            const late = await put(node, `late/${node.name}`, once)
            assert.deepEqual([late.status, late.code], [503, 'ReplicationPending'], `${late.body}`)
          }),
        )
        for (const node of gateways)
          for (const { name } of gateways)
            assert.equal(`${(await get(node.client, `late/${name}`)).body}`, `late/${name}`, 'it is here')
      } finally {
        process.kill(other.pid, 'SIGCONT')
      }
      // Each is asked for again at the next gateway, which has never seen it, and is the one write that it was.
      for (const [index, { name }] of gateways.entries()) {
        const next = gateways[(index + 1) % gateways.length] ?? assert.fail()
        const once = { 'x-pando-idempotency-key': `late-${name}` }
        await until(`late/${name} is in the other region`, async () => {
          const again = await put(next, `late/${name}`, once)
          assert.ok(again.status === 200 || again.code === 'ReplicationPending', `${again.body}`)
          return again.status === 200
        })
        assert.equal(`${(await get(there, `late/${name}`)).body}`, `late/${name}`)
      }
      const query = { versions: '', prefix: 'late/' }
      const { body } = await there.send({ method: 'GET', bucket, query })
      assert.equal(`${body}`.split('<Version>').length - 1, gateways.length, `${body}`)
      say(
        `x-pando-replication: sync at ${gateways.length} gateways: each write is in the other region at once`,
      )
    },
    start() {
      running = Promise.all(gateways.map(write))
      running.catch(() => {})
    },
    since: (atMs, gateway) => acknowledged.some((one) => one.gateway === gateway && one.atMs > atMs),
    end() {
      isOver = true
    },
    async stop() {
      isOver = true
      await running
      assert.deepEqual(absent, [], 'acknowledged, and not in the other region')
      for (const { key } of acknowledged) {
        for (const client of [there, ...gateways.map(({ client }) => client)])
          assert.equal(`${(await get(client, key)).body}`, key)
      }
      return acknowledged.length
    },
  }
}
