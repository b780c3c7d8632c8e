import { connect } from 'node:net'
import { presigner } from '../s3/presign.ts'
import type { Peer } from '../s3/processes.ts'

const connections = 4
/** Requests written ahead on one connection. */
const pipelined = 64

/** Writes `count` objects named `prefix` + nine digits, each with the same body. HTTP pipelining: a load, not a measurement. */
export async function loadObjects(
  peer: Peer,
  bucket: string,
  prefix: string,
  count: number,
  body: Buffer,
): Promise<void> {
  const signer = presigner(peer, new Date())
  const { hostname, port, host } = new URL(peer.url)
  let next = 0
  const request = () => {
    const path = signer.sign('PUT', bucket, prefix + String(next++).padStart(9, '0'))
    return Buffer.concat([
      Buffer.from(`PUT ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${body.length}\r\n\r\n`),
      body,
    ])
  }
  const lane = () =>
    new Promise<void>((resolve, reject) => {
      const socket = connect(Number(port), hostname)
      let inFlight = 0
      let tail = ''
      const send = () => {
        const requests: Buffer[] = []
        while (inFlight < pipelined && next < count) {
          requests.push(request())
          inFlight++
        }
        if (requests.length > 0) socket.write(Buffer.concat(requests))
        else if (inFlight === 0) socket.end()
      }
      socket.setEncoding('latin1')
      socket.on('connect', send)
      socket.on('data', (text: string) => {
        tail += text
        for (let end = tail.indexOf('\r\n\r\n'); end >= 0; end = tail.indexOf('\r\n\r\n')) {
          if (!tail.startsWith('HTTP/1.1 200')) {
            socket.destroy()
            return reject(new Error(`a PUT was refused: ${tail}`))
          }
          tail = tail.slice(end + 4)
          inFlight--
        }
        if (inFlight <= pipelined / 2) send()
      })
      socket.on('error', reject)
      socket.on('close', () => (inFlight === 0 ? resolve() : reject(new Error('the server hung up'))))
    })
  await Promise.all(Array.from({ length: connections }, lane))
}
