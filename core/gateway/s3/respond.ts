import type { IncomingMessage, ServerResponse } from 'node:http'
import { StorageError } from '../../contract/errors.ts'
import { bodyLengthHeader } from './local/local-door.ts'
import { sendThroughSlab } from './local/send-through-slab.ts'
import type { SlabAnswer } from './local/shared-slab.ts'
import type { ResponseStream, S3Response } from './operation.ts'

/** Writes a response value to node's response. The only place that does. */

/** Bytes of body sent, once the socket has taken all. Rejects when the answer could not be sent whole. */
export async function respond(
  response: ServerResponse,
  answer: S3Response,
  common: readonly string[],
  head: boolean,
  /** Memory that the client shares with this node, for a body of so many bytes. */
  slabFor: (byteLength: number) => SlabAnswer | undefined,
): Promise<number> {
  const fields: (string | number)[] = common.slice()
  const { headers, body } = answer
  for (const name in headers) {
    const value = headers[name]
    if (value !== undefined) fields.push(name, value)
  }
  if (body === undefined) {
    if (
      answer.status !== 204 &&
      answer.status !== 304 &&
      headers?.['content-length'] === undefined &&
      !head
    ) {
      fields.push('content-length', 0)
    }
    response.writeHead(answer.status, fields as string[])
    response.end()
    return 0
  }
  if (typeof body === 'string') {
    const bytes = Buffer.byteLength(body)
    if (headers?.['content-type'] === undefined) fields.push('content-type', 'application/xml')
    fields.push('content-length', bytes)
    response.writeHead(answer.status, fields as string[])
    if (head) response.end()
    else response.end(body)
    return head ? 0 : bytes
  }
  if (body instanceof Uint8Array) {
    fields.push('content-length', body.length)
    response.writeHead(answer.status, fields as string[])
    if (head) response.end()
    // Node joins a string with the head into one write, where a buffer would cost a second one.
    else if (body.length <= joinedBodyBytes) response.end(latin1(body), 'latin1')
    else response.end(body)
    return head ? 0 : body.length
  }
  if (head || response.destroyed) {
    fields.push('content-length', body.byteLength)
    body.discard()
    response.writeHead(answer.status, fields as string[])
    response.end()
    return 0
  }
  // What arrives there is what is stored: clients take an encoding off what comes through the socket.
  const isEncoded = headers?.['content-encoding'] !== undefined
  const slab = isEncoded ? undefined : slabFor(body.byteLength)
  if (slab !== undefined) {
    fields.push(bodyLengthHeader, body.byteLength)
    await sendThroughSlab(response, body, slab, () => response.writeHead(answer.status, fields as string[]))
    return body.byteLength
  }
  fields.push('content-length', body.byteLength)
  await stream(response, body, () => response.writeHead(answer.status, fields as string[]))
  return body.byteLength
}

/** Copying so little costs less than a second buffer in the write. */
const joinedBodyBytes = 16 * 1024

const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')

/** The head is written with the first piece: until then a body that cannot be read can still be answered as an error. */
async function stream(response: ServerResponse, body: ResponseStream, writeHead: () => void): Promise<void> {
  let sent = 0
  // The memory of a piece belongs to the socket until the callback or, if the connection breaks, until the handle is
  // closed: releasing it earlier would send other people's bytes.
  let fail: ((error: StorageError) => void) | undefined
  const onClose = (): void => fail?.(clientGone())
  response.once('close', onClose)
  const write = (piece: Uint8Array): Promise<void> => {
    if (response.destroyed) return Promise.reject(clientGone())
    if (sent === 0) writeHead()
    sent += piece.length
    if (sent > body.byteLength)
      return Promise.reject(new StorageError('INTERNAL', 'a body is longer than declared'))
    return new Promise<void>((resolve, reject) => {
      fail = reject
      const taken = (error?: Error | null): void => {
        if (error === undefined || error === null) {
          // Every response closes in the end: nobody is told then, and an error with its stack is dear.
          fail = undefined
          resolve()
        }
        // With an error the handle may still read the memory; `close` comes when it no longer does.
        else if (response.closed) reject(clientGone())
      }
      if (sent === body.byteLength) response.end(piece, taken)
      else response.write(piece, taken)
    })
  }
  await body.send(write, () => response.destroy())
  fail = undefined
  if (sent !== body.byteLength) throw new StorageError('INTERNAL', 'a body is shorter than declared')
  if (body.byteLength === 0) {
    writeHead()
    response.end()
  }
}

/** A refused body is read this far, so that the client gets to read the answer before the connection closes. */
const maxDrainBytes = 4 * 1024 * 1024
const maxDrainMs = 3_000

/**
 * Sends the answer at once, but closes only after the client has stopped sending (or has been read for long enough): a
 * close with unread data resets the connection, and the client would lose the answer. Bytes of body sent.
 */
export async function sendAndDrain(
  message: IncomingMessage,
  response: ServerResponse,
  answer: S3Response,
  common: readonly string[],
  body: string,
): Promise<number> {
  const bytes = Buffer.byteLength(body)
  const fields: (string | number)[] = [...common, 'content-length', bytes]
  for (const [name, value] of Object.entries(answer.headers ?? {})) fields.push(name, value)
  response.writeHead(answer.status, fields as string[])
  response.write(body)
  let drained = 0
  await new Promise<void>((resolve) => {
    const stop = (): void => {
      clearTimeout(deadline)
      resolve()
    }
    const deadline = setTimeout(stop, maxDrainMs)
    message.on('data', (piece: Buffer) => {
      drained += piece.length
      if (drained > maxDrainBytes) stop()
    })
    message.once('end', stop)
    message.once('close', stop)
    message.resume()
  })
  message.pause()
  response.end()
  return bytes
}

const clientGone = (): StorageError => new StorageError('CANCELLED', 'the client went away')

/** Whether the request says that it has a body. */
export function isBodyPending({ headers }: IncomingMessage): boolean {
  const length = headers['content-length']
  return headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0')
}
