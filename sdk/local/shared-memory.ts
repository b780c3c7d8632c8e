import { close, constants, open, read, write } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'

const openFile = promisify(open)
const readAt = promisify(read)
const writeAt = promisify(write)

/** What the client tells the node of an answer. */
const said = { read: 0, over: 1 } as const
/** A piece of memory is replaced when so much of it may still be in use by requests that broke off. */
const mostRetired = 0.5

/** The names are part of the protocol: core/gateway/s3/local/README.md. */
export const slabHeader = 'x-pando-slab'
export const bodyLengthHeader = 'x-pando-body-length'

/** The memory that a node has lent to this process: blocks for bodies that go there, and blocks that the node fills. */
export class SharedMemory {
  readonly name: string
  readonly blockBytes: number
  readonly #blocks: number
  readonly #descriptor: number
  readonly #control: Socket
  readonly #free: boolean[]
  #retired = 0
  #uses = 0
  #lastId = 0
  #isClosed = false

  private constructor(name: string, blocks: number, blockBytes: number, descriptor: number, control: Socket) {
    this.name = name
    this.#blocks = blocks
    this.blockBytes = blockBytes
    this.#descriptor = descriptor
    this.#control = control
    this.#free = Array.from({ length: blocks }, () => true)
    control.on('error', () => {})
    control.on('close', () => this.close())
    // Memory that nobody uses holds no process.
    control.unref()
  }

  /** Takes what a node has offered. */
  static async attach(directory: string, socketPath: string, offer: string): Promise<SharedMemory> {
    const [, name = '', blocks, blockBytes] = /^([0-9a-f]{32}) (\d{1,4}) (\d{4,8})$/.exec(offer) ?? []
    if (name === '') throw new Error('the node offers memory in a way that is not known here')
    const path = join(directory, `slab-${name}`)
    const descriptor = await openFile(path, constants.O_RDWR | constants.O_NOFOLLOW)
    try {
      const control = await upgraded(socketPath, name)
      const made = new SharedMemory(name, Number(blocks), Number(blockBytes), descriptor, control)
      // Anything: the file's name has done its work.
      made.#say(0, said.over)
      return made
    } catch (error) {
      close(descriptor)
      throw error
    }
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Names an answer. */
  nextId(): number {
    this.#lastId = (this.#lastId % 999_999_999) + 1
    return this.#lastId
  }

  /** Blocks for a body, side by side; undefined when there is no such room now. */
  take(byteLength: number): readonly number[] | undefined {
    const count = Math.ceil(byteLength / this.blockBytes)
    for (let first = 0, free = 0, at = 0; at < this.#blocks; at++) {
      free = this.#free[at] === true ? free + 1 : 0
      first = at - free + 1
      if (free < count) continue
      const taken = Array.from({ length: count }, (_, index) => first + index)
      for (const block of taken) this.#free[block] = false
      return taken
    }
    return undefined
  }

  give(blocks: readonly number[]): void {
    for (const block of blocks) this.#free[block] = true
  }

  /** Of a request that broke off: the node may still be reading them, and nobody says when it has ended. */
  retire(blocks: readonly number[]): void {
    this.#retired += blocks.length
    if (this.#retired > this.#blocks * mostRetired) this.close()
  }

  /** The body into blocks that were taken together. */
  async write(body: Uint8Array, blocks: readonly number[]): Promise<void> {
    await this.#using(async () => {
      const position = (blocks[0] ?? 0) * this.blockBytes
      const { bytesWritten } = await writeAt(this.#descriptor, body, 0, body.length, position)
      if (bytesWritten !== body.length) throw new Error('the shared memory is full')
    })
  }

  /** What the node has put into a block. */
  async read(target: Uint8Array, block: number): Promise<void> {
    await this.#using(async () => {
      const { bytesRead } = await readAt(this.#descriptor, target, 0, target.length, block * this.blockBytes)
      if (bytesRead !== target.length) throw new Error('the shared memory has gone')
    })
  }

  /** The oldest block of an answer has been read. */
  acknowledge(id: number): void {
    this.#say(id, said.read)
  }

  /** Nothing more of an answer is read. */
  abandon(id: number): void {
    this.#say(id, said.over)
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#control.destroy()
    if (this.#uses === 0) close(this.#descriptor)
  }

  async #using(work: () => Promise<void>): Promise<void> {
    if (this.#isClosed) throw new Error('the shared memory has gone')
    this.#uses += 1
    try {
      await work()
    } finally {
      this.#uses -= 1
      if (this.#isClosed && this.#uses === 0) close(this.#descriptor)
    }
  }

  #say(id: number, code: number): void {
    if (this.#isClosed) return
    const message = Buffer.allocUnsafe(8)
    message.writeUInt32LE(id, 0)
    message.writeUInt32LE(code, 4)
    this.#control.write(message)
  }
}

/** The connection that the memory lives as long as. */
function upgraded(socketPath: string, name: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const asking = request({
      socketPath,
      path: '/-/slab',
      agent: false,
      timeout: 5000,
      headers: { connection: 'upgrade', upgrade: 'pando-slab', [slabHeader]: name },
    })
    asking.on('upgrade', (_: IncomingMessage, socket: Socket) => {
      socket.setTimeout(0)
      resolve(socket)
    })
    asking.on('response', (answer) => {
      answer.resume()
      reject(new Error(`the node does not lend its memory (${answer.statusCode})`))
    })
    asking.on('timeout', () => asking.destroy(new Error('the node does not answer')))
    asking.on('error', reject)
    asking.end()
  })
}
