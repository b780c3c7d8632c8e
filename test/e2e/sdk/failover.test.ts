import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import test from 'node:test'
import { openFailoverTrio, type TrioMember, until, untilWhole } from '../../kit/failover-trio.ts'
import { openS3Client } from '../../kit/s3-client.ts'

const bucket = 'ledger'

test('an application that reads and writes sees no error through a planned and an unplanned change of the primary', {
  timeout: 300_000,
}, async (t) => {
  const { one, two } = await openFailoverTrio(t, { buckets: [bucket], leaseMs: 3_000 })
  const clientOf = ({ node, region }: TrioMember) => {
    const { endpoint, accessKey, secretKey } = node
    const client = openS3Client({ endpoint, accessKey, secretKey, region: `region-${region}` })
    t.after(() => client.close())
    return client
  }

  // Every gateway tells who leads; a write at a copy is shown the way.
  for (const member of [one, two]) {
    const client = clientOf(member)
    const topology = async () => {
      const { status, body } = await client.send({ method: 'GET', query: { 'pando-topology': '' } })
      assert.equal(status, 200, body.toString())
      return JSON.parse(body.toString())
    }
    // A copy hears of it with a renewal of the lease, which a witness alone may have answered until now.
    await until(`region ${member.region} knows where region 1 is`, async () => {
      const { groups } = await topology()
      return groups[0].regions[0].endpoints.length > 0
    })
    const told = await topology()
    assert.equal(told.region, member.region)
    assert.deepEqual([told.groups[0].primary, told.groups[0].buckets], [1, [bucket]])
    assert.deepEqual(told.groups[0].regions[0], { region: 1, endpoints: [one.node.endpoint] })
  }
  const refused = await clientOf(two).send({ method: 'PUT', bucket, key: 'a/b c', body: 'x' })
  assert.equal(refused.status, 307)
  assert.equal(refused.headers.location, `${one.node.endpoint}/${bucket}/a/b%20c`)
  assert.equal(refused.headers['x-pando-primary'], '1')
  assert.match(String(refused.headers['x-pando-epoch']), /^\d+$/)

  // It is told of one region only, and the wrong one: the other it hears of.
  const example = spawn(process.execPath, [resolve('dist/sdk/examples/through-failover.js')], {
    env: {
      PATH: process.env['PATH'],
      PANDO_ENDPOINTS: two.node.endpoint,
      PANDO_BUCKET: bucket,
      PANDO_ACCESS_KEY: two.node.accessKey,
      PANDO_SECRET_KEY: two.node.secretKey,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.after(() => example.kill('SIGKILL'))
  // With the last of what it says.
  const ended = once(example, 'close')
  let output = ''
  for (const stream of [example.stdout, example.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const says = (pattern: RegExp): Promise<void> =>
    until(`the application says ${pattern}\n${output}`, () => {
      assert.equal(example.exitCode, null, output)
      return pattern.test(output)
    })
  await says(/region 1 writes/)
  const planned = await two.ask(({ failover }) =>
    failover.run({ group: 'main', to: 2, acceptLoss: -1, isPrimaryDown: false }),
  )
  assert.equal(planned.kind, 'planned')
  await says(/region 2 writes/)
  await untilWhole(two, one)
  const before = output.length
  await two.node.kill()
  await until('region 1 writes again', () => /region 1 writes/.test(output.slice(before)))
  example.kill('SIGTERM')
  const [code] = await ended
  for (const line of output.trim().split('\n').slice(-3)) t.diagnostic(line)
  assert.equal(code, 0, output)
  assert.match(output, /^region 1 to 2, .*; 0 acknowledged ones lost so far/m, output)
  assert.match(output, /^region 2 to 1, /m)
  assert.match(output, /^done: [1-9]\d* writes, [1-9]\d* reads .*, 0 errors, 2 changes of the primary/m)
})
