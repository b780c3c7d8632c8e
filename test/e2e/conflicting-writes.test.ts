import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { buildPolicy } from '../../plugins/kit/build-policy.ts'
import { readProject } from '../../plugins/kit/policy-project.ts'
import type { NodeProcess } from '../kit/node-process.ts'
import { openRegionClient, pando, startRegionOfOne } from '../kit/region-of-one.ts'
import type { S3Client } from '../kit/s3-client.ts'

/** Two real regions write one bucket while they do not see each other; a policy that was loaded while they run says what lasts. */

interface Region {
  readonly node: NodeProcess
  readonly client: S3Client
}

async function start(t: TestContext, regionId: number): Promise<Region> {
  const node = await startRegionOfOne(t, regionId)
  return { node, client: openRegionClient(t, node, regionId) }
}

async function until(what: string, nodes: readonly Region[], look: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await look()); tries++) {
    assert.ok(
      tries < 240,
      `it did not come to it that ${what}\n${nodes.map(({ node }) => node.logTail()).join('\n')}`,
    )
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

for (const bucket of ['plain', 'versioned']) {
  test(`what two regions wrote at once is decided by the policy that serves then: a ${bucket} bucket`, {
    timeout: 300_000,
  }, async (t) => {
    const scratch = await mkdtemp(join(tmpdir(), 'pando-conflicts-'))
    t.after(() => rm(scratch, { recursive: true, force: true }))
    const [one, two] = await Promise.all([start(t, 1), start(t, 2)])
    const both = [one, two]
    const put = async ({ client }: Region, key: string, body: string): Promise<void> => {
      assert.equal((await client.send({ method: 'PUT', bucket, key, body })).status, 200)
    }
    const read = async ({ client }: Region, key: string): Promise<string> =>
      (await client.send({ method: 'GET', bucket, key })).body.toString()
    const everywhere = (key: string, body: string): Promise<void> =>
      until(`'${key}' is the same everywhere`, both, async () =>
        (await Promise.all(both.map((region) => read(region, key)))).every((found) => found === body),
      )
    /** Neither region runs while the other writes. */
    const apart = async (key: string, before: string, after: string): Promise<void> => {
      await two.node.kill()
      await put(one, key, before)
      await one.node.kill()
      await two.node.start()
      await put(two, key, after)
      await one.node.start()
    }

    await pando(two.node, 'federation', 'join', await pando(one.node, 'federation', 'invite', '--for', '2'))
    assert.equal((await one.client.send({ method: 'PUT', bucket })).status, 200)
    if (bucket === 'versioned') {
      const xml = '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>'
      const { status } = await one.client.send({
        method: 'PUT',
        bucket,
        query: { versioning: '' },
        body: xml,
      })
      assert.equal(status, 200)
    }
    await pando(one.node, 'replication', 'set', bucket, '--to', '2', '--multi')
    await put(one, 'first', 'there')
    await everywhere('first', 'there')
    await put(two, 'first', 'and back')
    await everywhere('first', 'and back')

    // Nobody has said otherwise: the later write lasts.
    const large = 'of region 1, '.repeat(2_000)
    await apart('before', large, 'of region 2')
    await everywhere('before', 'of region 2')

    const { wasm } = await buildPolicy(readProject('plugins/pdk/examples/keep-larger'), {
      asconfig: 'asconfig.json',
    })
    const file = join(scratch, 'keep-larger.wasm')
    await writeFile(file, wasm)
    for (const { node } of both) await pando(node, 'policy', 'push', file, '--activate')
    await apart('after', large, 'of region 2')
    await everywhere('after', large)
    assert.equal(await read(one, 'before'), 'of region 2', 'what was decided before stays')

    // Region 2 wrote the later one, so it has decided, and region 1 has not.
    const counted = async ({ node }: Region): Promise<number> => {
      const scrape = await (await fetch(`${node.consoleUrl}/metrics`)).text()
      const found = /^pando_replication_conflicts_total\{.*outcome="older".*\} (\d+)$/m.exec(scrape)
      return Number(found?.[1] ?? 0)
    }
    assert.deepEqual([await counted(one), await counted(two)], [0, 1])

    // Written with knowledge of what is there: the policy has no say.
    await put(one, 'after', 'small')
    await everywhere('after', 'small')
    if (bucket === 'versioned') {
      const listed = await two.client.send({
        method: 'GET',
        bucket,
        query: { versions: '', prefix: 'after' },
      })
      assert.equal(
        listed.body.toString().match(/<Version>/g)?.length,
        4,
        'nothing that was acknowledged is gone',
      )
    }
  })
}
