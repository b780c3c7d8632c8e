import { connect, type Socket } from 'node:net'

/** HTTP by hand over a socket, for requests that no client library would send. */
export interface RawReply {
  /** 0: the connection ended without an answer. */
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly body: string
  /** `Code` of the error document; empty when there is none. */
  readonly code: string
  /** The service closed the connection (within `closeTimeoutMs` of the answer, or `timeoutMs` where the answer says that it does). */
  readonly closed: boolean
}

export interface RawOptions {
  readonly port: number
  readonly host?: string
  /** Ends our side after the last piece (a client that says it is done). */
  readonly end?: boolean
  /** How long to wait for an answer. Default 10 s; reaching it is an error. */
  readonly timeoutMs?: number
  /** How long after the answer the connection may stay open and still count as closed. Default 250 ms. */
  readonly closeTimeoutMs?: number
}

/** Sends the pieces one after another and returns the first answer. */
export async function exchangeRaw(
  pieces: string | Uint8Array | readonly (string | Uint8Array)[],
  options: RawOptions,
): Promise<RawReply> {
  const socket = await openSocket(options)
  try {
    const list = typeof pieces === 'string' || pieces instanceof Uint8Array ? [pieces] : pieces
    const reply = readReply(socket, options.timeoutMs ?? 10_000, options.closeTimeoutMs ?? 250)
    for (const piece of list) {
      if (socket.destroyed) break
      if (!socket.write(piece)) await drained(socket)
    }
    if (options.end) socket.end()
    return await reply
  } finally {
    socket.destroy()
  }
}

export function openSocket({ port, host = '127.0.0.1' }: Pick<RawOptions, 'port' | 'host'>): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host, noDelay: true }, () => {
      socket.off('error', reject)
      // The service may reset a hostile connection at any time: that is an outcome, not a failure of the test.
      socket.on('error', () => {})
      resolve(socket)
    })
    socket.once('error', reject)
  })
}

/** Resolves when the service has closed the socket; rejects after the time given. */
export function waitForClose(socket: Socket, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    if (socket.closed || socket.destroyed) return resolve()
    const timer = setTimeout(() => reject(new Error(`not closed within ${timeoutMs} ms`)), timeoutMs)
    socket.resume()
    socket.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('drain', resolve)
    socket.once('close', resolve)
  })
}

function readReply(socket: Socket, timeoutMs: number, closeTimeoutMs: number): Promise<RawReply> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0)
    let closed = false
    const timer = setTimeout(() => {
      reject(
        new Error(
          `no answer within ${timeoutMs} ms; received so far: ${received.toString('latin1').slice(0, 300)}`,
        ),
      )
      socket.destroy()
    }, timeoutMs)
    let closing: NodeJS.Timeout | undefined
    const finish = (): void => {
      clearTimeout(timer)
      clearTimeout(closing)
      resolve(parseReply(received, closed))
    }
    socket.on('data', (piece: Buffer) => {
      received = Buffer.concat([received, piece])
      // Wait a moment more: whether the connection is closed is part of the answer.
      if (!isComplete(received)) return
      clearTimeout(timer)
      closing ??= setTimeout(finish, saysThatItCloses(received) ? timeoutMs : closeTimeoutMs)
    })
    socket.once('close', () => {
      closed = true
      finish()
    })
    socket.once('end', () => {
      closed = true
    })
  })
}

/** Then it is waited for as long as for the answer: a machine that is busy closes late. */
const saysThatItCloses = (received: Buffer): boolean =>
  /\r\nconnection: *close\r\n/i.test(
    received.subarray(0, received.indexOf('\r\n\r\n') + 2).toString('latin1'),
  )

function isComplete(received: Buffer): boolean {
  const head = received.indexOf('\r\n\r\n')
  if (head < 0) return false
  const text = received.subarray(0, head).toString('latin1')
  if (/^HTTP\/1\.1 100 /.test(text)) return isComplete(received.subarray(head + 4))
  if (/^transfer-encoding: *chunked/im.test(text)) return received.includes('\r\n0\r\n\r\n')
  const length = Number(/^content-length: *(\d+)/im.exec(text)?.[1] ?? 0)
  return received.length >= head + 4 + length
}

function parseReply(received: Buffer, closed: boolean): RawReply {
  let bytes = received
  while (/^HTTP\/1\.1 100 /.test(bytes.subarray(0, 13).toString('latin1'))) {
    bytes = bytes.subarray(bytes.indexOf('\r\n\r\n') + 4)
  }
  const head = bytes.indexOf('\r\n\r\n')
  if (head < 0) return { status: 0, headers: new Map(), body: bytes.toString('latin1'), code: '', closed }
  const [statusLine = '', ...lines] = bytes.subarray(0, head).toString('latin1').split('\r\n')
  const headers = new Map<string, string>()
  for (const line of lines) {
    const colon = line.indexOf(':')
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim())
  }
  const body = bytes.subarray(head + 4).toString('utf8')
  return {
    status: Number(statusLine.split(' ')[1] ?? 0),
    headers,
    body,
    code: /<Code>([^<]*)<\/Code>/.exec(body)?.[1] ?? '',
    closed,
  }
}
