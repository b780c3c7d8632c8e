import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** Connections to one endpoint that ask for objects of one size, so many requests at a time. */
export interface GetLoad {
  /** Resolves when so many more requests have been answered whole. Rejects on any answer but 200. */
  run(requests: number): Promise<void>
  close(): void
}

/**
 * A client that costs little beside what it measures: heads are not parsed beyond the status, the length of an answer is
 * learnt from the first one. Nothing but the number of requests ends a run, so two runs differ by nothing but the server.
 */
export async function openGetLoad(
  url: string,
  paths: readonly string[],
  connections: number,
  bodyBytes: number,
): Promise<GetLoad> {
  const { hostname, port, host } = new URL(url)
  const requests = paths.map((path) => Buffer.from(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\n\r\n`))
  let next = 0
  let left = 0
  let working = 0
  let finish = (): void => undefined
  let fail = (_: Error): void => undefined

  const send = (socket: Socket): void => {
    left--
    next = (next + 1) % requests.length
    socket.write(requests[next] ?? '')
  }
  const open = async (): Promise<Socket> => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true })
    await once(socket, 'connect')
    let head = ''
    let missing = 0
    socket.on('data', (piece: Buffer) => {
      if (missing > 0) missing -= piece.length
      else {
        head += piece.toString('latin1', 0, maxHeadBytes)
        const end = head.indexOf('\r\n\r\n')
        if (end < 0) return
        if (!head.startsWith('HTTP/1.1 200 ')) fail(new Error(`answered ${head.slice(0, end)}`))
        missing = end + 4 + bodyBytes - piece.length
        head = ''
      }
      if (missing < 0) fail(new Error('more bytes than an answer has'))
      if (missing > 0) return
      if (left > 0) send(socket)
      else if (--working === 0) finish()
    })
    socket.on('error', (error) => fail(error))
    socket.on('close', () => fail(new Error('the connection was closed')))
    return socket
  }
  const sockets = await Promise.all(Array.from({ length: connections }, open))
  return {
    run(count) {
      return new Promise((resolve, reject) => {
        finish = resolve
        fail = reject
        left = count
        working = Math.min(count, sockets.length)
        for (const socket of sockets.slice(0, working)) send(socket)
      })
    },
    close() {
      fail = () => undefined
      for (const socket of sockets) socket.destroy()
    },
  }
}

const maxHeadBytes = 4096
