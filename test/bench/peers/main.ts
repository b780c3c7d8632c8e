// What talking to another node costs: messages, requests and streams of RegionPeers between two processes over mutual TLS, against
// unary calls of grpc-js in the same run. CPU time is that of both processes. Interleaved rounds, medians.
// Usage: npm run bench -- peers [--rounds N] [--seconds S]
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Client, credentials } from '@grpc/grpc-js'
import { issueNodeCertificate, makeAuthority } from '../../../core/cluster/keys/certificate.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { PeerTls } from '../../../core/control/region-peers/peer-link.ts'
import { openRegionPeers } from '../../../core/control/region-peers/region-peers.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { describeMachine, formatTable, median } from '../machine.ts'
import { serveEcho, unaryEcho } from './echo-node.ts'

const keysVariable = 'PANDO_BENCH_PEER_KEYS'
const given = process.env[keysVariable]
if (given !== undefined) await serveEcho(JSON.parse(given) as PeerTls)
else await measure()

async function measure(): Promise<void> {
  const { values } = parseArgs({
    options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '0.5' } },
  })
  const rounds = Number(values.rounds)
  const roundMs = Number(values.seconds) * 1000
  const authority = await makeAuthority(7, realEnvironment)
  const keysOf = async (name: string): Promise<PeerTls> => {
    const own = await issueNodeCertificate(authority, { regionId: 7, name }, ['127.0.0.1'], realEnvironment)
    return { ca: authority.certificate, certificate: own.certificate, key: own.key }
  }
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, [keysVariable]: JSON.stringify(await keysOf('b')) },
  })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  const [port, unaryPort] = line.toString().trim().split(' ')
  const tls = await keysOf('a')
  const peers = await openRegionPeers({
    self: { regionId: 7, name: 'a' },
    listen: { host: '127.0.0.1', port: 0 },
    tls,
    environment: realEnvironment,
    log: silentLogger,
  })
  const connected = new Promise<void>((resolve) => {
    peers.onChange(() => resolve())
  })
  peers.setPeers([{ name: 'b', address: `127.0.0.1:${port}` }])
  await connected
  const unary = new Client(
    `127.0.0.1:${unaryPort}`,
    credentials.createSsl(Buffer.from(tls.ca), Buffer.from(tls.key), Buffer.from(tls.certificate)),
    { 'grpc.ssl_target_name_override': 'b' },
  )

  const small = Buffer.alloc(100, 7)
  const request = (): Promise<unknown> => peers.request('b', 'echo', small)
  const call = (): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = unaryEcho
      unary.makeUnaryRequest(path, requestSerialize, responseDeserialize, small, (error, answer) =>
        error === null ? resolve(answer) : reject(error),
      )
    })
  /** CPU microseconds of both processes so far, and messages that came. */
  const cost = async (): Promise<{ cpuUs: number; messages: number }> => {
    const answer = await peers.request('b', 'cost', new Uint8Array(0))
    const [theirs = 0, messages = 0] = new Float64Array(answer.slice().buffer)
    const { user, system } = process.cpuUsage()
    return { cpuUs: user + system + theirs, messages }
  }
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

  /** Runs `step` on so many lanes until the time is over; how often, and how long each took. */
  const lanes = async (width: number, step: () => Promise<unknown>): Promise<readonly number[]> => {
    const latencies: number[] = []
    const untilMs = performance.now() + roundMs
    await Promise.all(
      Array.from({ length: width }, async () => {
        for (let from = performance.now(); from < untilMs; ) {
          await step()
          const now = performance.now()
          latencies.push(now - from)
          from = now
        }
      }),
    )
    return latencies
  }
  const messages = (perTurn: number) => async (): Promise<readonly number[]> => {
    const before = await cost()
    let sent = 0
    for (const untilMs = performance.now() + roundMs; performance.now() < untilMs; ) {
      for (let count = 0; count < perTurn; count++) peers.send('b', 'echo', small)
      sent += perTurn
      // Not faster than they are taken: what is dropped costs nothing.
      if (sent % 1000 < perTurn) while ((await cost()).messages - before.messages < sent - 2000) await turn()
      await turn()
    }
    while ((await cost()).messages - before.messages < sent) await turn()
    return new Array<number>(sent).fill(roundMs / sent)
  }
  const pieceBytes = 256 * 1024
  const stream = async (): Promise<readonly number[]> => {
    let pieces = 0
    const question = new Uint8Array(Uint32Array.of(400, pieceBytes).buffer)
    const from = performance.now()
    for await (const _ of peers.stream('b', 'echo', question, new AbortController().signal)) pieces++
    return new Array<number>(pieces).fill((performance.now() - from) / pieces)
  }

  const cases: Readonly<Record<string, () => Promise<readonly number[]>>> = {
    'request, 1 under way': () => lanes(1, request),
    'grpc-js unary call, 1 under way': () => lanes(1, call),
    'request, 32 under way': () => lanes(32, request),
    'grpc-js unary call, 32 under way': () => lanes(32, call),
    'message, 1 a turn': messages(1),
    'message, 20 a turn': messages(20),
    'stream, piece of 256 KiB': stream,
  }
  const measured = new Map<
    string,
    { readonly cpuUs: number; readonly rate: number; readonly p50Us: number }[]
  >()
  for (let round = -1; round < rounds; round++) {
    for (const [name, run] of Object.entries(cases)) {
      const before = await cost()
      const from = performance.now()
      const latencies = await run()
      const elapsedMs = performance.now() - from
      const after = await cost()
      // The first round warms up.
      if (round < 0) continue
      measured.set(name, [
        ...(measured.get(name) ?? []),
        {
          cpuUs: (after.cpuUs - before.cpuUs) / latencies.length,
          rate: (latencies.length / elapsedMs) * 1000,
          p50Us: median(latencies) * 1000,
        },
      ])
    }
  }
  const rows = [...measured].map(([name, results]) => [
    name,
    median(results.map(({ cpuUs }) => cpuUs)).toFixed(1),
    median(results.map(({ rate }) => rate)).toFixed(0),
    median(results.map(({ p50Us }) => p50Us)).toFixed(0),
  ])
  console.log(Object.values(describeMachine()).join(', '))
  console.log(formatTable(['two processes, mutual TLS, 100 B', 'CPU us each', 'a second', 'median us'], rows))
  unary.close()
  await peers.close()
  child.kill()
}
