import assert from 'node:assert/strict'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { openRegion, type RegionNode } from '../../kit/region/region.ts'
import { clusterStatus, say, until } from './scenario.ts'

/** Two of three nodes are lost for good: the third is made the region by command, and what comes back is refused or joins anew. */
const bucket = 'kept'
const region = await openRegion({ nodes: ['n1', 'n2', 'n3'] })
const [n1, n2, n3] = region.nodes
assert.ok(n1 && n2 && n3)

const small = Buffer.alloc(700, 's')
const large = Buffer.alloc(300_000, 'l')
const bodies = new Map<string, Buffer>()

async function put(node: RegionNode, prefix: string, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    const [key, body] = [`${prefix}/${index}`, index % 4 === 0 ? large : small]
    // A node serves before the others do: until there are two for a body it is sent again, as by any client.
    await until(`${key} is stored`, async () => {
      const { status } = await node.client.send({ method: 'PUT', bucket, key, body })
      return status === 200
    })
    bodies.set(key, body)
  }
}

async function readAll(node: RegionNode): Promise<void> {
  for (const [key, body] of bodies) {
    const got = await node.client.send({ method: 'GET', bucket, key })
    assert.equal(got.status, 200, `${node.name} ${key}: ${got.body}`)
    assert.ok(body.equals(Buffer.from(got.body)), `${node.name} ${key}`)
  }
}

async function recover(node: RegionNode, ...args: readonly string[]) {
  const { code, stdout, stderr } = await node.command('cluster', 'recover', '--node', node.name, ...args)
  return { code, text: stdout + stderr }
}

try {
  await region.startAll()
  assert.equal((await n1.client.send({ method: 'PUT', bucket })).status, 200)
  for (const [index, node] of region.nodes.entries()) await put(node, `by-${index}`, 20)
  const isWhole = async (): Promise<boolean> => {
    const reports = await Promise.all(region.nodes.filter(({ running }) => running).map(clusterStatus))
    return reports.every(({ isSafe, repair }) => isSafe && repair.missing === 0 && repair.movingNodes === 0)
  }
  await until('three copies of everything', isWhole, 60_000)

  const busy = await recover(n3)
  assert.notEqual(busy.code, 0)
  assert.match(busy.text, /ALREADY_OPEN|in use/i)
  await n3.stop()
  const refused = await recover(n3, '--yes', 'us-east-1')
  assert.equal(refused.code, 7, refused.text)
  assert.match(refused.text, /Refused: 3 of 3 voters are there/)
  say('recover is refused while the node runs, and while a majority is there')

  await n3.start()
  await until('n3 has all', isWhole, 60_000)
  await Promise.all([n1.kill(), n2.kill()])
  await n1.wipe()
  const stuck = await n3.client.send({ method: 'PUT', bucket, key: 'alone', body: small })
  assert.equal(stuck.status, 503)
  await n3.stop()

  const wrong = await recover(n3, '--yes', 'us-west-2')
  assert.equal(wrong.code, 2, wrong.text)
  const plan = await recover(n3)
  assert.equal(plan.code, 0, plan.text)
  assert.match(plan.text, /Nothing has been changed/)
  assert.match(plan.text, /Removed: n1, n2\./)
  const began = performance.now()
  const done = await recover(n3, '--yes', 'us-east-1')
  assert.equal(done.code, 0, done.text)
  say(done.text.trim())
  await n3.start()
  say(`n3 serves again ${Math.round(performance.now() - began)} ms after the command was given`)
  await readAll(n3)
  say(`all ${bodies.size} acknowledged objects are there`)
  await put(n3, 'later', 12)

  // Its disk was not lost after all: it holds the log of before.
  const told = await n2.start().then(
    () => 'it serves',
    (reason: unknown) => String(reason),
  )
  assert.match(told, /recovered without it .*n3 goes on from there: move the directory `catalog`/)
  say('n2 comes back with its old data and is refused in words')
  await rename(join(n2.dataDirectory, 'catalog'), join(n2.dataDirectory, 'catalog-before'))
  await n2.start()
  await n1.start()
  await until('three nodes again', isWhole, 90_000)
  for (const node of [n1, n2, n3]) await readAll(node)
  let findings: readonly string[] = []
  await until('nothing is found any more', async () => {
    findings = (await clusterStatus(n1)).findings
    return findings.length === 0
  }).catch((reason: unknown) => assert.fail(`${String(reason)}: ${findings.join('; ')}`))
  say(`n1 (empty) and n2 (with its chunks) have joined; all ${bodies.size} objects are read at each`)
  await n3.kill()
  await until(
    'two of three go on',
    async () =>
      (await n1.client.send({ method: 'PUT', bucket, key: 'without-n3', body: small })).status === 200,
    30_000,
  )
  say('the three are a region like any other: it goes on without n3')
} catch (reason) {
  const logs = region.nodes.map((node) => `--- ${node.name}\n${node.logTail().slice(-6000)}`).join('\n')
  throw new Error(`${String(reason)}\n${logs}`, { cause: reason })
} finally {
  await region[Symbol.asyncDispose]()
}
