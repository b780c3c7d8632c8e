import { readFileSync } from 'node:fs'
import { silentLogger } from '../../../core/contract/logger.ts'
import { openChunkStore } from '../../../native/addon.ts'
import { portOps } from '../../../native/data-plane-port.ts'
import { nativeTcp } from '../../../native/native-transports.ts'
import { peerDoorOf } from '../../../native/peer-door.ts'
import type { RingRequest } from '../../../native/request-ring.ts'

/** CPU time of the JavaScript thread for each request to another node, in ns. */
export interface BridgeCosts {
  /** A no-op of the own data plane: the bridge alone. */
  readonly nop: number
  /** A request over tcp, from an object that is there already. */
  readonly ring: number
  /** The same by `ChunkSession.has`: promises, abort signals, errors in words. */
  readonly session: number
}

const depth = 256
/** Requests that are submitted together: what a burst shares is paid once. */
const burst = 128

/** Of the main thread only: reactors are other threads of this process. */
function mainThreadNs(): number {
  const [ns] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')
  return Number(ns)
}

const identity = (node: number) => ({
  nodeId: new Uint8Array(16).fill(node),
  regionId: new Uint8Array(16).fill(1),
  regionKey: new Uint8Array(32).fill(2),
  mapEpoch: 1,
})

/** Two data planes of this process over tcp; JavaScript asks one of them for what the other one has. */
export async function openBridge() {
  const open = () =>
    openChunkStore({
      directory: '',
      backend: 'memory',
      poolBytes: 16 * 1024 * 1024,
      reactors: 1,
      log: silentLogger,
    })
  const [served, own] = await Promise.all([open(), open()])
  const transport = nativeTcp()
  const listener = await transport.listen({
    store: served,
    address: '127.0.0.1:0',
    identity: identity(1),
    requestCredits: depth,
  })
  const session = await transport.connect({
    buffers: own,
    address: listener.address,
    identity: identity(2),
  })
  const id = new Uint8Array(16).fill(7)
  const buffer = await own.acquire(4096)
  await session.put(id, buffer, 4096)
  buffer.release()

  // A second session, whose handle this file knows.
  const door = peerDoorOf(own)
  const page = door.takePage()
  page.write({
    ...identity(2),
    address: listener.address,
    kind: 'tcp',
    encrypt: 'off',
    network: '',
    timeoutMs: 5000,
    keepAliveMs: 10_000,
    requestCredits: 0,
    byteCredits: 0,
    maxSessions: 0,
  })
  const { value: handle } = await door.ask({ op: portOps.peerConnect, slabOffset: page.offset })

  function overRing(op: number, count: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let left = count
      let toSubmit = count
      const submitBurst = (): void => {
        for (let n = Math.min(burst, toSubmit); n > 0; n--) {
          toSubmit--
          door.port.requests.submit(request)
        }
      }
      const request: RingRequest = {
        write(words, bytes, first) {
          words[first + 2] = op
          words[first + 9] = handle
          bytes.set(id, first * 4 + 16)
        },
        complete(words, _bytes, first) {
          if (words[first + 2] !== 0) reject(new Error(`status ${words[first + 2]}`))
          if (--left === 0) resolve()
          else if (left % burst === 0) submitBurst()
        },
        fail: reject,
      }
      submitBurst()
      submitBurst()
    })
  }
  async function bySession(count: number): Promise<void> {
    let left = count
    const one = async (): Promise<void> => {
      while (left-- > 0) if (!(await session.has(id))) throw new Error('the chunk is gone')
    }
    await Promise.all(Array.from({ length: depth }, one))
  }
  const cost = async (count: number, work: Promise<void>, before: number): Promise<number> => {
    await work
    return (mainThreadNs() - before) / count
  }
  return {
    async measure(count: number): Promise<BridgeCosts> {
      return {
        nop: await cost(count, overRing(portOps.nop, count), mainThreadNs()),
        ring: await cost(count, overRing(portOps.peerHas, count), mainThreadNs()),
        session: await cost(count, bySession(count), mainThreadNs()),
      }
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await session.close()
      await door.ask({ op: portOps.peerClose, peer: handle, length: 1000 })
      door.givePage(page)
      await listener.close()
      await Promise.all([served.close(), own.close()])
    },
  }
}
