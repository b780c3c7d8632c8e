import { setMaxListeners } from 'node:events'
import {
  chmodSync,
  closeSync,
  constants,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  statfsSync,
  unlinkSync,
} from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { ChunkStore } from '../../../contract/chunk-store.ts'
import type { Environment } from '../../../contract/clock.ts'
import { StorageError } from '../../../contract/errors.ts'
import type { Logger } from '../../../contract/logger.ts'
import type { AccountId } from '../../../contract/object-model.ts'
import type { PayloadProtection } from '../authenticate/sigv4.ts'
import { blockBytes, blocksEachWay, SharedSlab, type SlabAnswer, slabBytes } from './shared-slab.ts'
import { SlabBody, type SlabPlace } from './slab-body.ts'

export interface LocalDoorOptions {
  /** Absolute. On tmpfs bodies go through shared memory; elsewhere through the socket only. */
  readonly directory: string
  /** For all clients together; one has 32 MiB. */
  readonly memoryBytes: number
  readonly idleTimeoutMs: number
  readonly environment: Environment
  readonly log: Logger
}

/** Of requests and answers; never signed: nobody is on the way. */
export const slabHeader = 'x-pando-slab'
/** What the HTTP answer would have as its content length. */
export const bodyLengthHeader = 'x-pando-body-length'
export const slabProtocol = 'pando-slab'
/** No bucket has so short a name. */
const slabPath = '/-/slab'
const nodePath = '/-/node'
const socketName = 's3.sock'
const slabPrefix = 'slab-'
/** sun_path has 108 bytes with its end. */
const maxSocketPathBytes = 107
const tmpfsMagic = 0x0102_1994
/** A client that has been given a slab comes for it at once, or does not want it. */
const attachMs = 5_000
/** So many times what is left then is the most that an account may have. */
const leftTimes = 2
/** Answers below go faster through the socket. */
const leastAnswerBytes = 64 * 1024
/** A number of an answer and what is said of it, 32 bits each. */
const messageBytes = 8
const said = { read: 0, over: 1 } as const

interface LentSlab {
  readonly slab: SharedSlab
  readonly account: AccountId
  /** The client's connection that the slab lives as long as. */
  control: Socket | undefined
}

/**
 * The door for applications on the node's own machine: a unix socket that speaks S3 as the port does, with the same signatures, and
 * memory for the bodies. The bytes of the protocol are told in `README.md` beside this file.
 */
export class LocalDoor {
  readonly socketPath: string
  readonly #options: LocalDoorOptions
  readonly #slabs = new Map<string, LentSlab>()
  readonly #hasSharedMemory: boolean
  readonly #ending = new AbortController()

  private constructor(options: LocalDoorOptions, hasSharedMemory: boolean) {
    this.#options = options
    // Each piece of memory that is offered listens to it.
    setMaxListeners(0, this.#ending.signal)
    this.socketPath = join(options.directory, socketName)
    this.#hasSharedMemory = hasSharedMemory
  }

  /** Makes the directory and takes away what an earlier run has left in it. INVALID_CONFIG. */
  static async open(options: LocalDoorOptions): Promise<LocalDoor> {
    const { directory, log } = options
    if (Buffer.byteLength(join(directory, socketName)) > maxSocketPathBytes)
      throw invalid(`the path is too long for a unix socket: ${directory}`)
    prepareDirectory(directory)
    if (await answers(join(directory, socketName))) throw invalid(`another node serves ${directory}`)
    for (const name of readdirSync(directory)) {
      if (name === socketName || name.startsWith(slabPrefix)) unlinkSync(join(directory, name))
    }
    const hasSharedMemory = statfsSync(directory).type === tmpfsMagic
    if (!hasSharedMemory)
      log.warn({ directory }, 's3.local.directory is not on tmpfs: bodies go through the socket')
    return new LocalDoor(options, hasSharedMemory)
  }

  /**
   * Answers who asks which node this is: its port is how clients know that an endpoint of theirs is on their own machine. The port is looked up for
   * them alone: every request comes by here, and the system call was a twentieth of a small one.
   */
  greet(message: IncomingMessage, response: ServerResponse, port: () => number | undefined): boolean {
    if (message.url !== nodePath || message.method !== 'GET') return false
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ port: port() ?? 0 }))
    return true
  }

  /**
   * Of a request whose sender has been authenticated: the slab that it asks for, as the value of the answer's header. Undefined: it asks
   * for none, or there is none for its account.
   */
  offer(message: IncomingMessage, account: AccountId): string | undefined {
    if (message.headers[slabHeader] !== 'new' || !this.#hasSharedMemory || this.#ending.signal.aborted)
      return undefined
    if (!this.#hasRoomFor(account)) return undefined
    const { directory, environment, log } = this.#options
    // Whoever knows the name may open the file, and the directory cannot be listed.
    const name = Buffer.from(environment.randomness.fill(new Uint8Array(16))).toString('hex')
    const path = join(directory, slabPrefix + name)
    let descriptor: number
    try {
      descriptor = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
    } catch (error) {
      log.warn({ err: error }, 'no shared memory for a client')
      return undefined
    }
    try {
      ftruncateSync(descriptor, slabBytes)
      chmodSync(path, 0o666)
    } catch (error) {
      closeSync(descriptor)
      unlinkSync(path)
      log.warn({ err: error }, 'no shared memory for a client')
      return undefined
    }
    const slab = new SharedSlab(name, descriptor)
    slab.ended.then(() => this.#slabs.delete(name))
    this.#slabs.set(name, { slab, account, control: undefined })
    environment.clock.sleep(attachMs, this.#ending.signal).then(
      () => {
        unlink(path)
        if (this.#slabs.get(name)?.control === undefined) slab.close()
      },
      () => undefined,
    )
    return `${name} ${blocksEachWay} ${blockBytes}`
  }

  /** A client comes for its slab. */
  upgrade(message: IncomingMessage, socket: Socket, head: Buffer): void {
    const name = message.headers[slabHeader]
    const lent = typeof name === 'string' ? this.#slabs.get(name) : undefined
    const isOurs =
      message.headers.upgrade === slabProtocol && message.url === slabPath && message.method === 'GET'
    socket.on('error', () => socket.destroy())
    if (!isOurs || lent === undefined || lent.control !== undefined || lent.slab.isClosing) {
      socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
      return
    }
    const { slab } = lent
    lent.control = socket
    socket.setTimeout(0)
    if (head.length > 0) socket.unshift(head)
    socket.once('close', () => slab.close())
    socket.on('end', () => socket.destroy())
    let rest: Buffer = Buffer.alloc(0)
    let isOpened = false
    socket.on('data', (piece: Buffer) => {
      // The client has the file open: nobody else will.
      if (!isOpened) unlink(join(this.#options.directory, slabPrefix + slab.name))
      isOpened = true
      const bytes = rest.length === 0 ? piece : Buffer.concat([rest, piece])
      let at = 0
      for (; at + messageBytes <= bytes.length; at += messageBytes) {
        const id = bytes.readUInt32LE(at)
        const code = bytes.readUInt32LE(at + 4)
        if (code === said.read) slab.acknowledge(id)
        else if (code === said.over) slab.abandon(id)
      }
      rest = bytes.subarray(at)
    })
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ${slabProtocol}\r\n\r\n`,
    )
  }

  /**
   * The body of a request that has it in its slab; undefined: it comes through the socket. INVALID_REQUEST, INVALID_ARGUMENT where what the
   * client says of its memory cannot be, UNAVAILABLE where it is not its memory any more.
   */
  body(message: IncomingMessage, protection: PayloadProtection, chunks: ChunkStore): SlabBody | undefined {
    const place = this.#placeOf(message)
    if (place === undefined) return undefined
    if (protection.kind !== 'unsigned' && protection.kind !== 'hash')
      throw new StorageError('INVALID_REQUEST', 'a body in shared memory has no chunks')
    if (message.headers['content-length'] !== '0')
      throw new StorageError('INVALID_REQUEST', 'a body in shared memory comes with content-length: 0')
    const sha256 = protection.kind === 'hash' ? protection.sha256 : undefined
    return new SlabBody(chunks, message, place, sha256, this.#options.environment.clock)
  }

  /** Where the body of an answer goes; undefined: through the socket. */
  answer(message: IncomingMessage, byteLength: number): SlabAnswer | undefined {
    const value = message.headers[slabHeader]
    if (byteLength < leastAnswerBytes || typeof value !== 'string') return undefined
    const [, name = '', id] = /^([0-9a-f]{32}) (\d{1,9})$/.exec(value) ?? []
    const { environment, idleTimeoutMs } = this.#options
    return this.#slabs.get(name)?.slab.openAnswer(Number(id), environment.clock, idleTimeoutMs)
  }

  /** Nothing new is lent, and what is lent ends. Resolves when nobody reads it into memory that may be somebody else's soon. */
  async close(): Promise<void> {
    this.#ending.abort()
    const lent = [...this.#slabs.values()]
    for (const { slab, control } of lent) {
      slab.close()
      control?.destroy()
      unlink(join(this.#options.directory, slabPrefix + slab.name))
    }
    unlink(this.socketPath)
    await Promise.all(lent.map(({ slab }) => slab.ended))
  }

  /**
   * An account may have twice as much as it leaves (the dynamic thresholds of Choudhury and Hahne): alone it has up to two thirds, and
   * whoever comes then finds some. Nobody has to be asked to give anything back.
   */
  #hasRoomFor(account: AccountId): boolean {
    const free = Math.floor(this.#options.memoryBytes / slabBytes) - this.#slabs.size
    let own = 0
    for (const lent of this.#slabs.values()) if (lent.account === account) own++
    return free > 0 && (own === 0 || own + 1 <= leftTimes * (free - 1))
  }

  #placeOf({ headers }: IncomingMessage): SlabPlace | undefined {
    const value = headers[slabHeader]
    if (typeof value !== 'string' || value === 'new') return undefined
    const [name = '', , length, ...list] = value.split(' ')
    if (length === undefined) return undefined
    const lent = this.#slabs.get(name)
    if (lent === undefined || lent.slab.isClosing)
      throw new StorageError('UNAVAILABLE', 'there is no such shared memory any more')
    const byteLength = Number(length)
    const blocks = list.map(Number)
    const isPossible =
      /^[0-9 ]+$/.test(value.slice(name.length)) &&
      blocks.length <= blocksEachWay &&
      blocks.length === Math.ceil(byteLength / blockBytes) &&
      blocks.every((block) => Number.isInteger(block) && block < blocksEachWay)
    if (!isPossible) {
      throw new StorageError('INVALID_ARGUMENT', 'no such place in shared memory', {
        details: { ArgumentName: slabHeader },
      })
    }
    return { slab: lent.slab, byteLength, blocks }
  }
}

const invalid = (why: string): StorageError =>
  new StorageError('INVALID_CONFIG', `s3.local.directory: ${why}`)

/** Ours alone to write and to list: who can list it could open the memory of others. */
function prepareDirectory(directory: string): void {
  try {
    mkdirSync(directory, { mode: 0o700 })
    chmodSync(directory, 0o711)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new StorageError('INVALID_CONFIG', `s3.local.directory cannot be made: ${directory}`, {
        cause: error,
      })
  }
  const found = lstatSync(directory)
  if (!found.isDirectory()) throw invalid(`no directory: ${directory}`)
  if (found.uid !== process.getuid?.()) throw invalid(`it belongs to another user: ${directory}`)
  if ((found.mode & 0o066) !== 0)
    throw invalid(`others may list it or write into it: chmod 711 ${directory}, or 710 for a group alone`)
}

/** Whether somebody listens on a socket. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    const tell = (is: boolean): void => {
      socket.destroy()
      resolve(is)
    }
    socket.once('connect', () => tell(true))
    socket.once('error', () => tell(false))
  })
}

function unlink(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // It is gone already: a client that is quick takes its name away itself.
  }
}
