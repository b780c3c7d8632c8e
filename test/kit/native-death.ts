import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import type { test as nodeTest } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { ChunkStore } from '../../core/contract/chunk-store.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { ChunkSession, ConnectOptions, TransportAdapter } from '../../core/contract/transport.ts'
import { openChunkStore } from '../../native/addon.ts'
import {
  clientNode,
  eventually,
  getChunk,
  identity,
  outcomes,
  putChunk,
  rejectsWith,
} from './transport-place.ts'

export interface DeathSubject {
  readonly name: string
  readonly adapter: TransportAdapter
  /** Where the process that will be killed shall listen. */
  address(): Promise<string>
  /** Deaths in a row; 3 unless told. */
  readonly deaths?: number
  /**
   * A long payload stays where a peer's device may read it until that has said that it did, so a put to one that stands still
   * ends the session a second after its deadline (native/RPC.md, Time): nothing goes on then.
   */
  readonly exposesPayloads?: boolean
}

/** Resolves when all of its threads stand still. */
async function stop(child: ChildProcess): Promise<void> {
  child.kill('SIGSTOP')
  await eventually(async () => {
    const threads = await readdir(`/proc/${child.pid}/task`)
    const states = await Promise.all(
      threads.map((thread) => readFile(`/proc/${child.pid}/task/${thread}/status`, 'utf8')),
    )
    return states.every((status) => /^State:\s+T/m.test(status))
  }, 'the process does not stop')
}

class Place implements AsyncDisposable {
  readonly own: ChunkStore
  readonly #subject: DeathSubject
  readonly #children: ChildProcess[] = []

  private constructor(subject: DeathSubject, own: ChunkStore) {
    this.#subject = subject
    this.own = own
  }

  static async open(subject: DeathSubject): Promise<Place> {
    const poolBytes = 64 * 1024 * 1024
    const own = await openChunkStore({
      directory: '',
      backend: 'memory',
      poolBytes,
      reactors: 1,
      log: silentLogger,
    })
    return new Place(subject, own)
  }

  /** A peer in a process of its own. */
  async spawn(at?: string): Promise<{ readonly address: string; readonly child: ChildProcess }> {
    const program = fileURLToPath(new URL('native-peer.js', import.meta.url))
    const wanted = at ?? (await this.#subject.address())
    const child = spawn(process.execPath, [program, this.#subject.adapter.id, wanted], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.#children.push(child)
    const address = await new Promise<string>((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`the peer ended with ${code}`)))
      child.stdout?.once('data', (line) => resolve(String(line).trim()))
    })
    return { address, child }
  }

  connect(address: string, more: Partial<ConnectOptions> = {}): Promise<ChunkSession> {
    const { adapter } = this.#subject
    return adapter.connect({ identity: identity(clientNode), address, buffers: this.own, ...more })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL')
    await this.own.close()
  }
}

/** What a native transport makes of a peer whose process is killed or stopped: no wire is needed to see that. */
export function proveDeaths(test: typeof nodeTest, subject: DeathSubject): void {
  test(`${subject.name}: a process that is killed under 32 requests ends each once, and its successor serves`, {
    timeout: 240_000,
  }, async () => {
    await using place = await Place.open(subject)
    let { address, child } = await place.spawn()
    for (let round = 0; round < (subject.deaths ?? 3); round++) {
      const session = await place.connect(address)
      await putChunk(place.own, session, 1, 1_000_000)
      const request = (index: number): Promise<void> =>
        index % 2 === 0 ? getChunk(session, 1, 1_000_000) : putChunk(place.own, session, index + 2, 300_000)
      let answered: () => void = () => undefined
      const firstAnswer = new Promise<void>((resolve) => {
        answered = resolve
      })
      // Each is made again as long as it is answered: whenever the process dies, 32 are under way.
      const untilRefused = async (index: number): Promise<string> => {
        for (;;) {
          const [outcome = ''] = await outcomes([request(index)])
          if (outcome !== 'ok') return outcome
          answered()
        }
      }
      const all = Promise.all(Array.from({ length: 32 }, (_, index) => untilRefused(index)))
      await Promise.race([firstAnswer, all])
      child.kill('SIGKILL')
      for (const outcome of await all) assert.equal(outcome, 'PEER_UNREACHABLE')
      const end = await session.ended
      assert.notEqual(end.by, 'us')
      await rejectsWith('PEER_UNREACHABLE', session.ping())
      assert.equal((await place.own.stats()).poolUsedBytes, 0, 'memory is still held')
      // Until it is buried the kernel takes connections for it.
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      await rejectsWith('PEER_UNREACHABLE', place.connect(address, { timeoutMs: 2000 }))
      // At the same address, where the dead one has left what it could not clear away.
      const successor = await place.spawn(address)
      address = successor.address
      child = successor.child
    }
    const session = await place.connect(address)
    assert.equal((await session.stat()).chunkCount, 0)
    await session.close()
  })

  test(`${subject.name}: a process that stays stopped is given up after three keep-alive times`, {
    timeout: 240_000,
  }, async () => {
    await using place = await Place.open(subject)
    const { address, child } = await place.spawn()
    // Three of these are longer than a busy machine may let the process stand still before it is stopped.
    const session = await place.connect(address, { keepAliveMs: 500 })
    await putChunk(place.own, session, 1, 100_000)
    await stop(child)
    const held = outcomes([getChunk(session, 1, 100_000)])
    const end = await session.ended
    assert.equal(end.by, 'failure')
    assert.equal(end.error?.code, 'PEER_UNREACHABLE')
    assert.deepEqual(await held, ['PEER_UNREACHABLE'])
    assert.equal((await place.own.stats()).poolUsedBytes, 0, 'memory is still held')
  })

  if (subject.exposesPayloads === true) return
  test(`${subject.name}: a process that is stopped holds requests until their deadline, and goes on when it is continued`, {
    timeout: 240_000,
  }, async () => {
    await using place = await Place.open(subject)
    const { address, child } = await place.spawn()
    const session = await place.connect(address)
    await putChunk(place.own, session, 1, 100_000)
    await stop(child)
    const results = await outcomes([
      getChunk(session, 1, 100_000, { deadlineMs: 200 }),
      putChunk(place.own, session, 2, 100_000, { deadlineMs: 200 }),
      session.has(new Uint8Array(16), { deadlineMs: 200 }),
    ])
    assert.deepEqual(results, ['DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED'])
    child.kill('SIGCONT')
    await getChunk(session, 1, 100_000)
    await session.close()
  })
}
