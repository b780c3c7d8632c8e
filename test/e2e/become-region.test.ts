import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { suite, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { freePorts } from '../kit/free-ports.ts'
import { withoutNats } from '../kit/nats-region.ts'
import { runCommand, startNode, withoutNative } from '../kit/node-process.ts'
import { openS3Client, type S3Client } from '../kit/s3-client.ts'

const program = join(import.meta.dirname, '../../core/cli/main.js')
const parts = ['s3', 'admin', 'console', 'rpc', 'control', 'nats'] as const

interface ClusterFile {
  cluster: { nodes: Record<string, { ports?: Record<string, number>; data?: string }> }
}

suite('a node with data becomes a region', { skip: withoutNative || withoutNats, timeout: 180_000 }, () => {
  test('what it stored and its access keys are there, and a second node gets copies of it all', async (t) => {
    const place = await mkdtemp(join(tmpdir(), 'pando-become-'))
    const children: ChildProcess[] = []
    t.after(async () => {
      for (const child of children) child.kill('SIGKILL')
      await Promise.all(children.map((child) => child.exitCode ?? child.signalCode ?? once(child, 'exit')))
      await rm(place, { recursive: true, force: true })
    })
    await using alone = await startNode({ parentDirectory: place })
    const body = Buffer.alloc(300_000, 'body of before')
    const made = openS3Client(alone)
    assert.equal((await made.send({ method: 'PUT', bucket: 'kept' })).status, 200)
    for (const [key, bytes] of [
      ['large', body],
      ['small', Buffer.from('inline')],
    ] as const) {
      assert.equal((await made.send({ method: 'PUT', bucket: 'kept', key, body: bytes })).status, 200)
    }
    made.close()
    const { stdout } = await alone.command('key', 'create', 'of-before', '--json')
    const ofBefore = JSON.parse(stdout) as { accessKeyId: string; secretKey: string }
    await alone.stop()

    const env = {
      PATH: process.env['PATH'],
      HOME: place,
      PANDO_ROOT_ACCESS_KEY: alone.accessKey,
      PANDO_ROOT_SECRET_KEY: alone.secretKey,
      PANDO_TUNNEL_LISTEN: '127.0.0.1:0',
    }
    const directory = join(place, 'cluster')
    const file = join(directory, 'cluster.yaml')
    const pando = async (...args: string[]): Promise<string> => {
      const outcome = await runCommand(process.execPath, [program, ...args], { env, cwd: place })
      assert.equal(outcome.code, 0, `${args.join(' ')}\n${outcome.stderr}`)
      return outcome.stdout
    }
    /** Ports that nobody else on this machine has. */
    const settle = async (name: string): Promise<string> => {
      const document = parse(await readFile(file, 'utf8')) as ClusterFile
      const node = document.cluster.nodes[name]
      assert.ok(node)
      const ports = await freePorts(parts.length)
      node.ports = Object.fromEntries(parts.map((part, at) => [part, ports[at] ?? 0]))
      if (name !== 'n1') node.data = join(place, `data-${name}`)
      await writeFile(file, stringify(document))
      return `http://127.0.0.1:${node.ports['s3']}`
    }
    const start = async (name: string): Promise<void> => {
      const child = spawn(process.execPath, [program, 'up', '--json', '--config', file, '--node', name], {
        env,
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      children.push(child)
      const log: string[] = []
      createInterface({ input: child.stderr }).on('line', (line) => log.push(line))
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
      const ready = await lines.next()
      assert.ok(ready.done !== true, log.join('\n'))
    }
    const check = async (client: S3Client): Promise<void> => {
      const read = await client.send({ method: 'GET', bucket: 'kept', key: 'large' })
      assert.equal(read.status, 200, read.body.toString())
      assert.ok(read.body.equals(body))
      const small = await client.send({ method: 'GET', bucket: 'kept', key: 'small' })
      assert.equal(small.body.toString(), 'inline')
    }

    await pando('cluster', 'init', 'n1=127.0.0.1', '--from', alone.dataDirectory, '--directory', directory)
    const first = await settle('n1')
    await start('n1')
    const asBefore = openS3Client({
      endpoint: first,
      accessKey: ofBefore.accessKeyId,
      secretKey: ofBefore.secretKey,
    })
    await check(asBefore)
    assert.equal((await asBefore.send({ method: 'PUT', bucket: 'kept', key: 'new', body })).status, 200)

    await pando('cluster', 'add-node', 'n2=127.0.0.1', '--directory', directory)
    const second = await settle('n2')
    await start('n2')
    const status = async () =>
      JSON.parse(
        await runCommand(
          process.execPath,
          [program, 'cluster', 'status', '--json', '--config', file, '--node', 'n2'],
          { env, cwd: place },
        ).then((outcome) => outcome.stdout),
      ) as { nodes: { name: string; state: string; complete: boolean }[]; repair: { missing: number } }
    for (let waited = 0; ; waited++) {
      const { nodes, repair } = await status()
      const isWhole = nodes.every(({ state, complete }) => state === 'active' && complete)
      if (nodes.length === 2 && isWhole && repair.missing === 0) break
      assert.ok(waited < 60, JSON.stringify(nodes))
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
    const other = openS3Client({
      endpoint: second,
      accessKey: ofBefore.accessKeyId,
      secretKey: ofBefore.secretKey,
    })
    await check(other)
    asBefore.close()
    other.close()
  })
})
