// A stream of messages over @grpc/grpc-js, from a process that serves to this one, which is what a storage system in JavaScript
// would use between its nodes. `node grpc-stream.js --bytes N --seconds S` prints one line of JSON in the words of rpc_bench.
// Messages are buffers that neither side encodes, checks or copies by itself, and come out of 64 of them, as those of rpc_bench do.
// `--window` bytes of flow control; without it what grpc-js takes by itself, which holds a stream of long messages up.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import grpc from '@grpc/grpc-js'

const { values: options } = parseArgs({
  options: {
    bytes: { type: 'string', default: '1048576' },
    seconds: { type: 'string', default: '2' },
    window: { type: 'string', default: '0' },
    serve: { type: 'boolean', default: false },
  },
})
const messageBytes = Number(options.bytes)
const seconds = Number(options.seconds)
const warmUpMs = 700
const channelOptions = {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  ...(Number(options.window) > 0 ? { 'grpc-node.flow_control_window': Number(options.window) } : {}),
}
const asItIs = (message: Buffer): Buffer => message
const path = '/bench.Chunks/Get'
const method = {
  path,
  requestStream: false,
  responseStream: true,
  requestSerialize: asItIs,
  requestDeserialize: asItIs,
  responseSerialize: asItIs,
  responseDeserialize: asItIs,
}

function cpuSeconds({ user, system }: NodeJS.CpuUsage): number {
  return (user + system) / 1e6
}

async function serve(): Promise<void> {
  const server = new grpc.Server(channelOptions)
  const payload = Buffer.alloc(64 * messageBytes, 0x5a)
  let at = 0
  const next = (): Buffer => {
    at = (at + messageBytes) % payload.length
    return payload.subarray(at, at + messageBytes)
  }
  server.addService(
    { get: method },
    {
      get(call: grpc.ServerWritableStream<Buffer, Buffer>) {
        const fill = (): void => {
          while (!call.cancelled && call.write(next()));
        }
        call.on('drain', fill)
        fill()
      },
    },
  )
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    )
  })
  process.on('message', () => process.send?.(cpuSeconds(process.cpuUsage())))
  process.once('disconnect', () => process.exit())
  process.send?.(port)
}

async function answerOf(server: ChildProcess): Promise<number> {
  const [answer] = await once(server, 'message')
  return Number(answer)
}

async function ask(): Promise<void> {
  const server = fork(fileURLToPath(import.meta.url), [
    '--serve',
    '--bytes',
    options.bytes,
    '--window',
    options.window,
  ])
  const client = new grpc.Client(
    `127.0.0.1:${await answerOf(server)}`,
    grpc.credentials.createInsecure(),
    channelOptions,
  )
  const call = client.makeServerStreamRequest(path, asItIs, asItIs, Buffer.alloc(16))
  let messages = 0
  call.on('data', (message: Buffer) => {
    if (message.length !== messageBytes) throw new Error(`a message of ${message.length} bytes`)
    messages++
  })
  call.on('error', (reason: grpc.ServiceError) => {
    if (reason.code !== grpc.status.CANCELLED) throw reason
  })
  const serverCpu = (): Promise<number> => {
    server.send('cpu')
    return answerOf(server)
  }
  const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
  await sleep(warmUpMs)
  const serverBefore = await serverCpu()
  const clientBefore = cpuSeconds(process.cpuUsage())
  const began = performance.now()
  const messagesBefore = messages
  await sleep(seconds * 1000)
  const gib = ((messages - messagesBefore) * messageBytes) / 2 ** 30
  const tookSeconds = (performance.now() - began) / 1000
  const clientCpu = cpuSeconds(process.cpuUsage()) - clientBefore
  const serverCpuUsed = (await serverCpu()) - serverBefore
  console.log(
    JSON.stringify({
      transport: 'grpc-js',
      op: 'stream',
      bytes: messageBytes,
      mibPerSecond: (gib * 1024) / tookSeconds,
      clientCpuSecondsPerGib: clientCpu / gib,
      serverCpuSecondsPerGib: serverCpuUsed / gib,
    }),
  )
  call.cancel()
  client.close()
  server.disconnect()
  await once(server, 'exit')
}

if (options.serve) await serve()
else await ask()
