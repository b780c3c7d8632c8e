import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ListEntry, PandoClient, PandoError } from '../../../sdk/index.ts'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'
import { openS3Client } from '../../kit/s3-client.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'
import { openTcpGate, type TcpGate } from '../../kit/tcp-gate.ts'

const mebibyte = 1024 * 1024
const bucket = 'sdk-faults'

suite('the SDK when things break', { timeout: 300_000 }, () => {
  /** One node, reached over two ways that can be cut by themselves: two endpoints of one region. */
  async function withGates(work: (place: Place) => Promise<void>): Promise<void> {
    await using node = await startNode()
    const gates = [await openTcpGate(() => node.port), await openTcpGate(() => node.port)] as const
    const client = clientOf(node, gates.map(urlOf), { attemptTimeoutMs: 1000 })
    await client.createBucket(bucket)
    try {
      await work({ node, gates, client })
    } finally {
      for (const gate of gates) await gate.close()
    }
  }

  test('a connection that is cut in the middle of a body is no error for the reader', async () => {
    await withGates(async ({ client, gates }) => {
      const bytes = seededBytes('cut', 0, 16 * mebibyte)
      await client.put(bucket, 'cut', bytes)
      const { body } = await client.get(bucket, 'cut')
      const pieces: Uint8Array[] = []
      let length = 0
      let cuts = 0
      for await (const piece of body) {
        pieces.push(piece)
        length += piece.length
        if (length < (cuts + 1) * 4 * mebibyte || cuts === 3) continue
        cuts += 1
        for (const gate of gates) {
          gate.cut()
          gate.open()
        }
      }
      assert.equal(cuts, 3)
      assert.deepEqual(Buffer.concat(pieces), Buffer.from(bytes))
    })
  })

  test('one of two endpoints dies, freezes and comes back: reads and writes go on without an error', async () => {
    await withGates(async ({ client, gates }) => {
      const written = new Map<string, string>()
      const work = async (from: number): Promise<void> => {
        for (let index = from; index < from + 20; index++) {
          await client.put(bucket, `k${index}`, `v${index}`)
          written.set(`k${index}`, `v${index}`)
          const key = `k${(index * 7) % (index + 1)}`
          assert.equal(await (await client.get(bucket, key)).text(), written.get(key))
        }
      }
      await work(0)
      gates[0].cut()
      await work(20)
      gates[0].open()
      gates[1].stop()
      await work(40)
      gates[1].open()
      await work(60)
      const listed: ListEntry[] = []
      for await (const entry of client.list(bucket)) listed.push(entry)
      assert.equal(listed.length, 80)
    })
  })

  test('a node that is killed in the middle of an upload and restarted: the upload ends well', async () => {
    await using node = await startNode()
    const client = clientOf(node, [node.endpoint], { maxAttempts: 20 })
    await client.createBucket(bucket)
    const bytes = seededBytes('killed', 0, 26 * mebibyte)
    let restarted: Promise<void> | undefined
    const seen: number[] = []
    const put = await client.put(bucket, 'killed', new Blob([bytes]), {
      partSize: 5 * mebibyte,
      parallel: 2,
      onProgress({ loaded }) {
        seen.push(loaded)
        if (seen.length === 3) restarted = node.kill().then(() => node.start())
      },
    })
    await restarted
    assert.equal(put.size, bytes.length)
    assert.deepEqual(
      seen,
      seen.toSorted((a, b) => a - b),
    )
    assert.equal(seen.at(-1), bytes.length)
    const object = await client.get(bucket, 'killed', { parallel: 3, partSize: 7 * mebibyte })
    assert.deepEqual(Buffer.from(await object.bytes()), Buffer.from(bytes))
  })

  test('an upload that failed goes on from its token, and sends only what is missing', async () => {
    await using node = await startNode()
    const bytes = seededBytes('resumed', 0, 22 * mebibyte + 11)
    const tokens: string[] = []
    const first = clientOf(node, [node.endpoint], { retryBudget: 0 })
    await first.createBucket(bucket)
    async function* source(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < bytes.length; at += mebibyte) yield bytes.subarray(at, at + mebibyte)
    }
    let killed: Promise<void> | undefined
    const options = { partSize: 5 * mebibyte, onUpload: (token: string) => tokens.push(token) }
    const failure = await first
      .put(bucket, 'resumed', source(), {
        ...options,
        parallel: 1,
        onProgress({ loaded }) {
          if (loaded >= 10 * mebibyte) killed ??= node.kill()
        },
      })
      .catch((error: unknown) => error)
    assert.ok(failure instanceof PandoError && failure.retryable, String(failure))
    assert.equal(failure.uploadToken, tokens[0])
    await killed
    await node.start()

    // Another process, with nothing but the token. One part is another one by now, and one byte of the body too.
    const second = clientOf(node, [node.endpoint])
    const progress: number[] = []
    bytes[6 * mebibyte] = (bytes[6 * mebibyte] ?? 0) ^ 1
    const put = await second.put(bucket, 'resumed', source(), {
      ...options,
      resume: String(tokens[0]),
      onProgress: ({ loaded }) => progress.push(loaded),
    })
    assert.equal(put.resumedBytes % (5 * mebibyte), 0)
    assert.ok(put.resumedBytes >= 5 * mebibyte && put.resumedBytes < bytes.length, `${put.resumedBytes}`)
    assert.equal(tokens[1], tokens[0])
    assert.equal(progress.at(-1), bytes.length)
    assert.deepEqual(Buffer.from(await (await second.get(bucket, 'resumed')).bytes()), Buffer.from(bytes))

    // The token is used up: whoever comes with it again begins anew, and gets the same object.
    const again = await second.put(bucket, 'resumed', source(), { ...options, resume: String(tokens[0]) })
    assert.equal(again.resumedBytes, 0)
    assert.notEqual(tokens.at(-1), tokens[0])
    await assert.rejects(second.put(bucket, 'another', source(), { resume: String(tokens[0]) }), {
      code: 'InvalidArgument',
    })
    assert.equal(await uploadsOf(node), 0)
  })

  test('an abort takes back what was uploaded; a failure does so unless somebody holds the token', async () => {
    await withGates(async ({ client, node }) => {
      const bytes = seededBytes('aborted', 0, 26 * mebibyte)
      for (const onUpload of [undefined, () => {}]) {
        const controller = new AbortController()
        const reason = new Error('enough')
        const upload = client.put(bucket, 'aborted', bytes, {
          partSize: 5 * mebibyte,
          signal: controller.signal,
          onProgress: ({ loaded }) => loaded > 0 && controller.abort(reason),
          ...(onUpload && { onUpload }),
        })
        await assert.rejects(upload, reason)
        assert.equal(await uploadsOf(node), 0)
      }
      const broken = async function* (): AsyncGenerator<Uint8Array> {
        yield bytes.subarray(0, 11 * mebibyte)
        throw new Error('the source broke')
      }
      await assert.rejects(client.put(bucket, 'broken', broken()), /the source broke/)
      assert.equal(await uploadsOf(node), 0)
      let token = ''
      const onUpload = (told: string): void => {
        token = told
      }
      const breaks = async function* (): AsyncGenerator<Uint8Array> {
        yield bytes.subarray(0, 11 * mebibyte)
        // Not before a part of it is there.
        while (token === '' || (await client.uploadedBytes(token)) === 0) await sleep(20)
        throw new Error('the source broke')
      }
      await assert.rejects(client.put(bucket, 'broken', breaks(), { onUpload }), /the source broke/)
      assert.equal(await uploadsOf(node), 1)
      assert.equal((await client.uploadedBytes(token)) % (8 * mebibyte), 0, 'whole parts')
      await client.abortUpload(token)
      await client.abortUpload(token)
      await assert.rejects(client.uploadedBytes(token), { code: 'NoSuchUpload' })
      assert.equal(await uploadsOf(node), 0)
      await assert.rejects(client.head(bucket, 'aborted'), { code: 'NotFound' })
    })
  })

  test('a stream is read no faster than it is sent: memory stays bounded', async () => {
    await using node = await startNode()
    const client = clientOf(node, [node.endpoint])
    await client.createBucket(bucket)
    let made = 0
    let confirmed = 0
    let ahead = 0
    const total = 40 * mebibyte
    const stream = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          made += mebibyte
          ahead = Math.max(ahead, made - confirmed)
          controller.enqueue(seededBytes('stream', made - mebibyte, mebibyte))
          if (made === total) controller.close()
        },
      },
      { highWaterMark: 0 },
    )
    const put = await client.put(bucket, 'stream', stream, {
      partSize: 5 * mebibyte,
      parallel: 2,
      onProgress({ loaded }) {
        confirmed = loaded
      },
    })
    assert.equal(put.size, total)
    // Two parts on their way, one being read, and the piece that tells that it is not the last.
    assert.ok(ahead <= 3 * 5 * mebibyte + 2 * mebibyte, `${ahead} bytes ahead`)
    const { info } = await client.get(bucket, 'stream').then((object) => {
      object.cancel()
      return object
    })
    assert.equal(info.checksum?.algorithm, 'CRC32')
  })
})

interface Place {
  readonly node: NodeProcess
  readonly gates: readonly [TcpGate, TcpGate]
  readonly client: PandoClient
}

const urlOf = (gate: TcpGate): string => `http://127.0.0.1:${gate.port}`

function clientOf(
  node: NodeProcess,
  endpoints: readonly string[],
  options: Partial<ConstructorParameters<typeof PandoClient>[0]> = {},
): PandoClient {
  const credentials = { accessKeyId: node.accessKey, secretAccessKey: node.secretKey }
  return new PandoClient({ endpoints, credentials, ...options })
}

/** Uploads that were begun and neither completed nor taken back. */
async function uploadsOf(node: NodeProcess): Promise<number> {
  const { accessKey, secretKey, endpoint } = node
  const plain = openS3Client({ endpoint, accessKey, secretKey })
  const { body } = await plain.send({ method: 'GET', bucket, query: { uploads: '' } })
  plain.close()
  return body.toString().split('<Upload>').length - 1
}
