import { createSocket } from 'node:dgram'

export type DnsRecord =
  | { readonly type: 'A' | 'AAAA'; readonly address: string }
  | { readonly type: 'SRV'; readonly priority?: number; readonly port: number; readonly target: string }

/** A name server for tests: answers from a table that may change at any time, over UDP. */
export interface DnsServer extends AsyncDisposable {
  /** `host:port` */
  readonly address: string
  /** By name, in lower case. A name that is not there does not exist. */
  readonly records: Map<string, readonly DnsRecord[]>
  /** Questions that came, as `type name`. */
  readonly asked: readonly string[]
  /** Says nothing any more while it is true. */
  isSilent: boolean
}

const types = { A: 1, AAAA: 28, SRV: 33 } as const
const headerBytes = 12

export async function startDnsServer(host = '127.0.0.1', port = 0): Promise<DnsServer> {
  const socket = createSocket('udp4')
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(port, host, resolve)
  })
  const asked: string[] = []
  const server: DnsServer = {
    address: `${host}:${socket.address().port}`,
    records: new Map(),
    asked,
    isSilent: false,
    [Symbol.asyncDispose]: () => new Promise((resolve) => socket.close(() => resolve())),
  }
  socket.on('message', (question, from) => {
    const { name, end } = readName(question)
    const type = question.readUInt16BE(end)
    const [typeName] = Object.entries(types).find(([, number]) => number === type) ?? [`${type}`]
    asked.push(`${typeName} ${name}`)
    if (server.isSilent) return
    const known = server.records.get(name.toLowerCase())
    const answers = (known ?? []).filter((record) => types[record.type] === type).map(writeRecord)
    const header = Buffer.alloc(headerBytes)
    question.copy(header, 0, 0, 2)
    // A response with recursion, of a name that exists or does not (RFC 1035, section 4.1.1).
    header.writeUInt16BE(known === undefined ? 0x8183 : 0x8180, 2)
    header.writeUInt16BE(1, 4)
    header.writeUInt16BE(answers.length, 6)
    socket.send(
      Buffer.concat([header, question.subarray(headerBytes, end + 4), ...answers]),
      from.port,
      from.address,
    )
  })
  return server
}

function readName(message: Buffer): { readonly name: string; readonly end: number } {
  const labels: string[] = []
  let at = headerBytes
  for (let length = message[at] ?? 0; length > 0; length = message[at] ?? 0) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.'), end: at + 1 }
}

function writeRecord(record: DnsRecord): Buffer {
  const data = dataOf(record)
  const head = Buffer.alloc(12)
  // The name is that of the question. One second to live.
  head.writeUInt16BE(0xc000 | headerBytes, 0)
  head.writeUInt16BE(types[record.type], 2)
  head.writeUInt16BE(1, 4)
  head.writeUInt32BE(1, 6)
  head.writeUInt16BE(data.length, 10)
  return Buffer.concat([head, data])
}

function dataOf(record: DnsRecord): Buffer {
  if (record.type === 'SRV') {
    const numbers = Buffer.alloc(6)
    numbers.writeUInt16BE(record.priority ?? 0, 0)
    numbers.writeUInt16BE(record.port, 4)
    const labels = record.target.split('.').map((label) => Buffer.of(label.length, ...Buffer.from(label)))
    return Buffer.concat([numbers, ...labels, Buffer.of(0)])
  }
  if (record.type === 'A') return Buffer.from(record.address.split('.').map(Number))
  const [before = '', after = ''] = record.address.split('::')
  const partsOf = (text: string): readonly string[] => text.split(':').filter((part) => part !== '')
  const [left, right] = [partsOf(before), partsOf(after)]
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0')
  const bytes = Buffer.alloc(16)
  for (const [index, part] of [...left, ...zeros, ...right].entries()) {
    bytes.writeUInt16BE(Number.parseInt(part, 16), 2 * index)
  }
  return bytes
}
