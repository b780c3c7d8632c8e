import { once } from 'node:events'
import { type FileHandle, open } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import type { Socket } from 'node:net'
import { join } from 'node:path'

/** What came back, its body as it is on the socket: of an answer in shared memory that is the list of its blocks. */
export interface SocketAnswer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

export interface SocketRequest {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array
}

/** Begins a request at the socket of a node; `url` is presigned, so that it may say what no client of ours would. */
export async function begin(
  directory: string,
  url: string,
  { method = 'GET', headers = {}, body }: SocketRequest = {},
): Promise<IncomingMessage> {
  const { host, pathname, search } = new URL(url)
  const asking = request({
    ...{ socketPath: join(directory, 's3.sock'), agent: false, method, path: pathname + search },
    headers: { host, 'content-length': String(body?.length ?? 0), ...headers },
  })
  asking.end(body)
  const [answer] = (await once(asking, 'response')) as [IncomingMessage]
  return answer
}

export async function ask(directory: string, url: string, asked: SocketRequest = {}): Promise<SocketAnswer> {
  const answer = await begin(directory, url, asked)
  const pieces: Buffer[] = []
  for await (const piece of answer) pieces.push(piece as Buffer)
  return { status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(pieces) }
}

export interface LentSlab {
  readonly name: string
  readonly blocks: number
  readonly blockBytes: number
  readonly file: FileHandle
  readonly control: Socket
  close(): Promise<void>
}

/** Borrows memory as a client does, and leaves the rest to the test: the node has to cope with whatever it does. */
export async function borrow(directory: string, url: string): Promise<LentSlab> {
  const { headers } = await ask(directory, url, { headers: { 'x-pando-slab': 'new' } })
  const [name = '', blocks, blockBytes] = String(headers['x-pando-slab'] ?? '').split(' ')
  if (name === '') throw new Error('the node lends nothing')
  const file = await open(join(directory, `slab-${name}`), 'r+')
  const asking = request({
    ...{ socketPath: join(directory, 's3.sock'), agent: false, path: '/-/slab' },
    headers: { connection: 'upgrade', upgrade: 'pando-slab', 'x-pando-slab': name },
  })
  asking.end()
  const [, control] = (await once(asking, 'upgrade')) as [IncomingMessage, Socket]
  control.on('error', () => {})
  return {
    ...{ name, blocks: Number(blocks), blockBytes: Number(blockBytes), file, control },
    async close() {
      control.destroy()
      await file.close()
    },
  }
}

/** Number of an answer and what is said of it. */
export const message = (id: number, code: number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt32LE(id, 0)
  bytes.writeUInt32LE(code, 4)
  return bytes
}
