import { createServer, connect as openSocket, type Server, type Socket } from 'node:net'
import { StorageError } from '../../core/contract/errors.ts'
import type { ByteStream, StreamListener, StreamNetwork } from '../../core/protocol/rpc/byte-stream.ts'

/** TCP by node:net: the smallest network that is real. Addresses are `host:port`. */
export const nodeNetNetwork: StreamNetwork = {
  async listen(address, onConnection): Promise<StreamListener> {
    const { host, port } = parse(address)
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      onConnection(streamOver(socket)),
    )
    await bind(server, host, port)
    const bound = server.address()
    if (bound === null || typeof bound === 'string') throw new Error('a TCP server has a port')
    return {
      address: `${host}:${bound.port}`,
      // Does not wait for the connections: those have owners of their own.
      close: async () => {
        server.close()
      },
    }
  },

  async connect(address, signal): Promise<ByteStream> {
    const socket = openSocket({ ...parse(address), allowHalfOpen: true, noDelay: true })
    const onAbort = (): void => {
      socket.destroy(new Error('aborted'))
    }
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve)
        socket.once('error', reject)
      })
      return streamOver(socket)
    } catch (cause) {
      throw new StorageError('PEER_UNREACHABLE', `nobody answers at ${address}`, { cause })
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  },
}

function parse(address: string): { host: string; port: number } {
  const match = /^(.+):(\d{1,5})$/.exec(address)
  const port = Number(match?.[2])
  if (match?.[1] === undefined || port > 65_535) {
    throw new StorageError('INVALID_ARGUMENT', `'${address}' is not host:port`)
  }
  return { host: match[1], port }
}

function bind(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new StorageError('UNAVAILABLE', `cannot bind ${host}:${port}`, { cause })),
    )
    server.listen({ host, port }, resolve)
  })
}

function streamOver(socket: Socket): ByteStream {
  let failure: StorageError | undefined
  let isEnded = false
  let wake: () => void = () => undefined
  const fail = (cause?: unknown): void => {
    failure ??= new StorageError('PEER_UNREACHABLE', 'the connection was lost', { cause })
    wake()
  }
  socket.on('error', fail)
  socket.on('close', () => fail())
  socket.on('end', () => {
    isEnded = true
    wake()
  })
  socket.on('readable', () => wake())
  return {
    write(pieces) {
      return new Promise((resolve, reject) => {
        if (failure !== undefined) {
          reject(failure)
          return
        }
        socket.cork()
        for (const [index, piece] of pieces.entries()) {
          if (index < pieces.length - 1) socket.write(piece)
          else socket.write(piece, (error) => (error ? reject(failure ?? error) : resolve()))
        }
        socket.uncork()
      })
    },
    async read() {
      for (;;) {
        const bytes: Buffer | null = socket.read()
        if (bytes !== null) return bytes
        if (isEnded) return undefined
        if (failure !== undefined) throw failure
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
    end: () => {
      socket.end()
    },
    destroy: () => {
      socket.destroy()
      fail()
    },
  }
}
