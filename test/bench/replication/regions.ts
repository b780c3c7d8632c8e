import assert from 'node:assert/strict'
import { freePort } from '../../kit/free-ports.ts'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'
import { openS3Client, type S3Client } from '../../kit/s3-client.ts'

/** A region of one node that is measured, and a client of it. */
export interface MeasuredRegion {
  readonly node: NodeProcess
  readonly client: S3Client
  readonly regionId: number
}

const connections = 32

export async function openMeasuredRegion(
  regionId: number,
  tunnel: Readonly<Record<string, unknown>> = {},
  port?: number,
): Promise<MeasuredRegion> {
  const tunnelPort = port ?? (await freePort())
  const node = await startNode({
    config: { regionId, region: `region-${regionId}`, store: { capacity: '16GiB' }, tunnel },
    env: { PANDO_TUNNEL_LISTEN: `127.0.0.1:${tunnelPort}` },
  })
  const { endpoint, accessKey, secretKey } = node
  const region = `region-${regionId}`
  return { node, regionId, client: openS3Client({ endpoint, accessKey, secretKey, region, connections }) }
}

/** Objects of one size, so many at a time. */
export async function load(
  { client }: MeasuredRegion,
  bucket: string,
  count: number,
  body: Uint8Array,
): Promise<void> {
  assert.equal((await client.send({ method: 'PUT', bucket })).status, 200)
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < count) {
      const key = `${(next++).toString(36).padStart(6, '0')}`
      const { status } = await client.send({ method: 'PUT', bucket, key, body })
      assert.equal(status, 200)
    }
  }
  await Promise.all(Array.from({ length: connections }, worker))
}

export async function metric(node: NodeProcess, name: string, labels: string): Promise<number | undefined> {
  const text = await (await fetch(`${node.consoleUrl}/metrics`)).text()
  const line = text.split('\n').find((one) => one.startsWith(`pando_replication_${name}{${labels}}`))
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1))
}

/** Resolves when the other region has everything. */
export async function even({ node }: MeasuredRegion, bucket: string, region: number): Promise<void> {
  const labels = `bucket="${bucket}",region="${region}"`
  const isEven = async (): Promise<boolean> =>
    (await metric(node, 'synchronizing', labels)) === 0 && (await metric(node, 'lag_entries', labels)) === 0
  while (!(await isEven())) await new Promise((wait) => setTimeout(wait, 50))
}

/** What a listing of the bucket shows: number of keys. */
export async function countOf({ client }: MeasuredRegion, bucket: string): Promise<number> {
  let count = 0
  let after = ''
  for (;;) {
    const query = { 'list-type': '2', 'start-after': after }
    const page = (await client.send({ method: 'GET', bucket, query })).body.toString()
    const keys = [...page.matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => key ?? '')
    count += keys.length
    if (keys.length === 0 || page.includes('<IsTruncated>false')) return count
    after = keys.at(-1) ?? ''
  }
}
