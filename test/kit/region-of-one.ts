import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { freePort } from './free-ports.ts'
import { type NodeProcess, type NodeProcessOptions, startNode } from './node-process.ts'
import { openS3Client, type S3Client } from './s3-client.ts'

/** Regions of one real node each, for tests of several: what is in their files and how they are told what to do. */
export const regionName = (regionId: number): string => `region-${regionId}`

/**
 * Gone with the test. Its tunnels have one port for good: of two regions that had both come back at other ones neither would find the
 * other.
 */
export async function startRegionOfOne(
  t: TestContext,
  regionId: number,
  config: NodeProcessOptions['config'] = {},
): Promise<NodeProcess> {
  const node = await startNode({
    config: { regionId, region: regionName(regionId), ...config },
    env: { PANDO_TUNNEL_LISTEN: `127.0.0.1:${await freePort()}` },
  })
  t.after(() => node[Symbol.asyncDispose]())
  return node
}

/** Closed with the test. */
export function openRegionClient(t: TestContext, node: NodeProcess, regionId: number): S3Client {
  const { endpoint, accessKey, secretKey } = node
  const client = openS3Client({ endpoint, accessKey, secretKey, region: regionName(regionId) })
  t.after(() => client.close())
  return client
}

/** Runs the `pando` command against a node; what it printed, without the last line's end. Rejects unless it ends with 0. */
export async function pando(
  node: Pick<NodeProcess, 'command' | 'logTail'>,
  ...args: readonly string[]
): Promise<string> {
  const { code, stdout, stderr } = await node.command(...args)
  assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}\n${node.logTail().slice(-6_000)}`)
  return stdout.trim()
}
