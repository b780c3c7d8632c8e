import assert from 'node:assert/strict'
import { type NodeProcess, startNode } from '../kit/node-process.ts'
import { exchangeRaw, type RawReply } from '../kit/raw-http.ts'
import { openS3Client, type S3Client, signRequest } from '../kit/s3-client.ts'

export const bucket = 'hostile-bucket'

/** A node with one bucket and one object in it, `victim`, that no hostile request may change. */
export interface Victim extends AsyncDisposable {
  readonly node: NodeProcess
  readonly client: S3Client
  /** As the Host header has it. */
  readonly host: string
  readonly keys: { readonly accessKey: string; readonly secretKey: string }
  /** Headers of a properly signed request. */
  signed(
    method: string,
    target: string,
    headers?: Record<string, string>,
    more?: { payload?: string; time?: Date; region?: string; secretKey?: string; accessKey?: string },
  ): Record<string, string>
  /** Sends the pieces as they are; `end` closes our side after them. */
  raw(pieces: Parameters<typeof exchangeRaw>[0], end?: boolean): Promise<RawReply>
  /** The same, for a request behind which the node is to close the connection: waits longer for that. */
  rawClosed(pieces: Parameters<typeof exchangeRaw>[0], end?: boolean): Promise<RawReply>
  /** Rejects unless the key does not exist. */
  expectAbsent(key: string): Promise<void>
}

export async function openVictim(): Promise<Victim> {
  const node = await startNode({ config: { s3: { idleTimeout: '2s' } } })
  const client = openS3Client({
    endpoint: node.endpoint,
    accessKey: node.accessKey,
    secretKey: node.secretKey,
  })
  assert.equal((await client.send({ method: 'PUT', bucket })).status, 200)
  const put = await client.send({ method: 'PUT', bucket, key: 'victim', body: 'untouched' })
  assert.equal(put.status, 200)
  const host = `127.0.0.1:${node.port}`
  const keys = { accessKey: node.accessKey, secretKey: node.secretKey }
  return {
    node,
    client,
    host,
    keys,
    signed: (method, target, headers = {}, more = {}) =>
      signRequest({ method, target, headers: { host, ...headers }, ...keys, ...more }),
    raw: (pieces, end = false) => exchangeRaw(pieces, { port: node.port, end }),
    // On a busy machine the end of a connection comes some time behind the answer.
    rawClosed: (pieces, end = false) => exchangeRaw(pieces, { port: node.port, end, closeTimeoutMs: 10_000 }),
    async expectAbsent(key) {
      expectError(await client.send({ method: 'GET', bucket, key }), 404, 'NoSuchKey')
    },
    async [Symbol.asyncDispose]() {
      client.close()
      await node[Symbol.asyncDispose]()
    },
  }
}

export function expectError(
  reply: { readonly status: number; readonly code: string },
  status: number,
  code: string | RegExp,
): void {
  const wanted = typeof code === 'string' ? new RegExp(`^${code}$`) : code
  assert.ok(
    reply.status === status && wanted.test(reply.code),
    `answered ${reply.status} ${reply.code}, wanted ${status} ${wanted}`,
  )
}
