import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { pattern } from '../../kit/chunk-store-place.ts'
import type { RegionNode } from '../../kit/region/region.ts'
import { bucket, clusterStatus, openStage, say, until } from './scenario.ts'

/**
 * Six nodes that keep STANDARD_IA as 4+2: written with one node away, read with two away, made whole when one of them comes back
 * without its disk, and read again through that one, with another one away.
 */
const storageClass = 'STANDARD_IA'
await using stage = await openStage({
  nodes: ['n1', 'n2', 'n3', 'n4', 'n5', 'n6'],
  cluster: { classes: { [storageClass]: '4+2' } },
})
const { region } = stage
const [one, two, , four, five, six] = region.nodes
assert.ok(one && two && four && five && six)
const bodies = new Map<string, Uint8Array>()

async function put(node: RegionNode, key: string, byteLength: number): Promise<number> {
  const body = pattern(byteLength, byteLength)
  const headers = { 'x-amz-storage-class': storageClass }
  const { status } = await node.client.send({ method: 'PUT', bucket, key, headers, body })
  if (status === 200) bodies.set(key, body)
  return status
}

async function readAll(node: RegionNode, what: string): Promise<void> {
  const beganMs = performance.now()
  for (const [key, body] of bodies) {
    const whole = await node.client.send({ method: 'GET', bucket, key })
    assert.equal(whole.status, 200, `${what}: ${key}: ${whole.body.subarray(0, 500)}`)
    assert.ok(Buffer.compare(whole.body, body) === 0, `${what}: ${key} has other bytes`)
    assert.equal(whole.headers['x-amz-storage-class'], storageClass)
    const [start, end] = [Math.floor(body.length / 3), Math.floor(body.length / 3) + 70_000]
    const range = { range: `bytes=${start}-${end - 1}` }
    const part = await node.client.send({ method: 'GET', bucket, key, headers: range })
    assert.ok(Buffer.compare(part.body, body.subarray(start, end)) === 0, `${what}: a range of ${key}`)
  }
  say(`${what}: ${bodies.size} objects read in ${Math.round(performance.now() - beganMs)} ms`)
}

/** Whole by the word of all that run; nodes that are away are no fault. */
const isWhole = async (): Promise<boolean> => {
  const reports = await Promise.all(region.nodes.filter(({ running }) => running).map(clusterStatus))
  return reports.every(({ repair }) => repair.missing === 0 && repair.movingNodes === 0)
}

await until('the first write', async () => (await put(one, 'first', 3_000_000)) === 200, 20_000)
await until('a write at n2', async () => (await put(two, 'large', 16 * 1024 * 1024)) === 200, 20_000)
assert.equal(await put(two, 'odd', 1_234_567), 200)
await readAll(four, 'all six nodes there')

await six.kill()
await until(
  'a write with one node away',
  async () => (await put(one, 'five of six', 5_000_000)) === 200,
  20_000,
)
await five.kill()
await until('reads with two nodes away', async () => (await put(one, 'never', 200_000)) !== 200, 20_000)
const refused = await one.client.send({
  method: 'PUT',
  bucket,
  key: 'never',
  headers: { 'x-amz-storage-class': storageClass },
  body: pattern(1, 200_000),
})
assert.equal(refused.status, 503, 'four of six fragments are not enough to acknowledge')
bodies.delete('never')
await readAll(one, 'two nodes away')

await five.wipe()
await Promise.all([five.start(), six.start()])
const wholeMs = await until('repair', isWhole, 90_000)
assert.ok((await readdir(five.dataDirectory)).length > 0)
say(
  `n5, which had lost its disk, and n6, which had missed writes, are whole ${Math.round(wholeMs)} ms after their start`,
)
await until('fragments at n5', async () => (await clusterStatus(five)).repair.repairedChunks >= 10, 60_000)
await four.kill()
await until(
  'reads without n4',
  async () => (await five.client.send({ method: 'GET', bucket, key: 'first' })).status === 200,
  30_000,
)
await readAll(five, 'another one away')
