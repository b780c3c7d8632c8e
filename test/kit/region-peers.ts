import assert from 'node:assert/strict'
import type { test as nodeTest, TestContext } from 'node:test'
import { type ErrorCode, StorageError } from '../../core/contract/errors.ts'
import type { RegionPeers } from '../../core/contract/region-peers.ts'

/** Three nodes, a, b and c, that are connected when the law begins. */
export interface RegionPeersSubject {
  readonly a: RegionPeers
  readonly b: RegionPeers
  readonly c: RegionPeers
  /** The connections between a and b end and stay away until the function that this returns is called. c is not concerned. */
  cut(): () => void
  /** Between a and b nothing gets through and nobody is told. Absent: not proved. */
  stop?(): () => void
}

export type OpenRegionPeers = (t: TestContext) => Promise<RegionPeersSubject>

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)
const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const fails =
  (code: ErrorCode, words = /./) =>
  (error: unknown): boolean =>
    error instanceof StorageError && error.code === code && words.test(error.reason)

export async function until(holds: () => boolean, what: string): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    assert.ok(tries < 3000, what)
    await pause(10)
  }
}

const pattern = (seed: number, byteLength: number): Uint8Array =>
  Uint8Array.from({ length: byteLength }, (_, index) => (seed * 31 + index * 7) & 0xff)

/** A request that is never answered, and what became of it at the side that should. */
function serveSilence(peers: RegionPeers): { started: number; aborted: number } {
  const seen = { started: 0, aborted: 0 }
  peers.serve('silence', {
    request: (_, __, signal) => {
      seen.started++
      return new Promise((_resolve, reject) => {
        const end = (): void => {
          seen.aborted++
          reject(new StorageError('CANCELLED', 'nobody waits'))
        }
        signal.addEventListener('abort', end, { once: true })
      })
    },
  })
  return seen
}

/** The laws of core/contract/region-peers.ts. */
export function proveRegionPeers(name: string, test: typeof nodeTest, open: OpenRegionPeers): void {
  const law = (sentence: string, prove: (subject: RegionPeersSubject) => Promise<void>): void => {
    void test(`${name}: ${sentence}`, { timeout: 120_000 }, async (t) => prove(await open(t)))
  }

  law('everybody is connected to everybody else, and not to itself', async ({ a, b, c }) => {
    assert.deepEqual(a.connected().toSorted(), ['b', 'c'])
    assert.deepEqual(b.connected().toSorted(), ['a', 'c'])
    assert.deepEqual(c.connected().toSorted(), ['a', 'b'])
  })

  law(
    'messages come in order, each once, under the name of their sender, byte for byte',
    async ({ a, b, c }) => {
      const got = new Map<string, string[]>()
      b.serve('news', {
        message(from, message) {
          got.set(from, [...(got.get(from) ?? []), textOf(message)])
        },
      })
      const expected = Array.from({ length: 500 }, (_, index) => `${index} ${'x'.repeat(index)}`)
      for (const [index, text] of expected.entries()) {
        a.send('b', 'news', bytesOf(text))
        c.send('b', 'news', bytesOf(text))
        if (index % 100 === 99) await pause(1)
      }
      await until(
        () => (got.get('a')?.length ?? 0) + (got.get('c')?.length ?? 0) >= 1000,
        'all messages come',
      )
      await pause(50)
      assert.deepEqual(got.get('a'), expected)
      assert.deepEqual(got.get('c'), expected)
      assert.deepEqual([...got.keys()].toSorted(), ['a', 'c'])
    },
  )

  law(
    'a message to nobody, of a topic nobody serves, or to a handler that throws does no harm',
    async (subject) => {
      const { a, b } = subject
      let seen = 0
      b.serve('throws', {
        message() {
          seen++
          throw new Error('a handler that fails')
        },
      })
      a.send('nobody', 'news', bytesOf('x'))
      a.send('b', 'unheard', bytesOf('x'))
      a.send('b', 'throws', bytesOf('x'))
      a.send('b', 'throws', bytesOf('x'))
      await until(() => seen === 2, 'both messages come')
    },
  )

  law('requests are answered, many at once, each with its own answer', async ({ a, b, c }) => {
    b.serve('echo', {
      async request(from, message) {
        // A Buffer's `slice` shares memory: what is handed over is none.
        assert.equal(Object.getPrototypeOf(message), Uint8Array.prototype)
        return bytesOf(`${from}:${textOf(message)}`)
      },
    })
    b.serve('late', {
      async request(_, message) {
        await pause(Number(textOf(message)) % 10)
        return message
      },
    })
    const answers = await Promise.all(
      Array.from({ length: 300 }, async (_, index) => [
        textOf(await (index % 2 === 0 ? a : c).request('b', 'echo', bytesOf(`${index}`))),
        textOf(await a.request('b', 'late', bytesOf(`${index}`))),
      ]),
    )
    assert.deepEqual(
      answers,
      answers.map((_, index) => [`${index % 2 === 0 ? 'a' : 'c'}:${index}`, `${index}`]),
    )
    assert.equal((await a.request('b', 'echo', new Uint8Array(0))).byteLength, 2)
  })

  law('what a handler throws comes back with its code and its reason', async ({ a, b }) => {
    b.serve('fails', {
      request: async (_, message) => {
        if (textOf(message) === 'plain') throw new Error('something broke')
        throw new StorageError('CONFLICT', 'it was there already')
      },
    })
    await assert.rejects(a.request('b', 'fails', bytesOf('x')), fails('CONFLICT', /^it was there already$/))
    await assert.rejects(a.request('b', 'fails', bytesOf('plain')), fails('INTERNAL'))
  })

  law(
    'a node that is not connected and a topic that nobody serves are PEER_UNREACHABLE at once',
    async ({ a }) => {
      await assert.rejects(a.request('nobody', 'echo', bytesOf('x')), fails('PEER_UNREACHABLE'))
      await assert.rejects(a.request('b', 'unheard', bytesOf('x')), fails('PEER_UNREACHABLE'))
      const read = async (to: string): Promise<void> => {
        for await (const _ of a.stream(to, 'unheard', bytesOf('x'), new AbortController().signal))
          assert.fail()
      }
      await assert.rejects(read('nobody'), fails('PEER_UNREACHABLE'))
      await assert.rejects(read('b'), fails('PEER_UNREACHABLE'))
    },
  )

  law(
    'a request that is not answered in time is DEADLINE_EXCEEDED, and the other side is told',
    async ({ a, b }) => {
      const seen = serveSilence(b)
      await assert.rejects(
        a.request('b', 'silence', bytesOf('x'), { deadlineMs: 50 }),
        fails('DEADLINE_EXCEEDED'),
      )
      await until(() => seen.aborted === 1, 'the handler is told')
      assert.equal(seen.started, 1)
    },
  )

  law('a caller that gives up is CANCELLED, and the other side is told', async ({ a, b }) => {
    const seen = serveSilence(b)
    const giveUp = new AbortController()
    const waiting = a.request('b', 'silence', bytesOf('x'), { signal: giveUp.signal })
    waiting.catch(() => {})
    await until(() => seen.started === 1, 'the request comes')
    giveUp.abort()
    await assert.rejects(waiting, fails('CANCELLED'))
    await until(() => seen.aborted === 1, 'the handler is told')
    await assert.rejects(
      a.request('b', 'silence', bytesOf('x'), { signal: AbortSignal.abort() }),
      fails('CANCELLED'),
    )
    assert.equal(seen.started, 1)
  })

  law('a topic is served once, until it is given back', async ({ a, b }) => {
    const giveBack = b.serve('once', { request: async () => bytesOf('first') })
    assert.throws(() => b.serve('once', {}), fails('CONFLICT'))
    assert.equal(textOf(await a.request('b', 'once', bytesOf(''))), 'first')
    giveBack()
    await assert.rejects(a.request('b', 'once', bytesOf('')), fails('PEER_UNREACHABLE'))
    b.serve('once', { request: async () => bytesOf('second') })
    giveBack()
    assert.equal(textOf(await a.request('b', 'once', bytesOf(''))), 'second')
  })

  law('a message may have 1 MiB', async ({ a, b }) => {
    b.serve('echo', { request: async (_, message) => message })
    const largest = pattern(3, 1024 * 1024)
    assert.equal(Buffer.compare(await a.request('b', 'echo', largest), largest), 0)
  })

  law('a stream gives its pieces in order, byte for byte, and ends', async ({ a, b }) => {
    b.serve('count', {
      async *stream(from, message) {
        for (let number = 0; number < Number(textOf(message)); number++) {
          yield pattern(number, (number * 997) % 50_000)
          if (number % 50 === 0) await pause(1)
        }
        yield bytesOf(from)
      },
    })
    for (const count of [0, 1, 200]) {
      const pieces: Uint8Array[] = []
      for await (const piece of a.stream('b', 'count', bytesOf(`${count}`), new AbortController().signal)) {
        pieces.push(piece)
      }
      assert.equal(pieces.length, count + 1)
      for (const [number, piece] of pieces.entries()) {
        const expected = number === count ? bytesOf('a') : pattern(number, (number * 997) % 50_000)
        assert.equal(Buffer.compare(piece, expected), 0, `${number}`)
      }
    }
  })

  law('what a stream throws comes behind its pieces, with its code', async ({ a, b }) => {
    b.serve('breaks', {
      async *stream() {
        yield bytesOf('one')
        yield bytesOf('two')
        throw new StorageError('LOG_TRIMMED', 'no more of it')
      },
    })
    const pieces: string[] = []
    const read = async (): Promise<void> => {
      for await (const piece of a.stream('b', 'breaks', bytesOf(''), new AbortController().signal)) {
        pieces.push(textOf(piece))
      }
    }
    await assert.rejects(read(), fails('LOG_TRIMMED', /^no more of it$/))
    assert.deepEqual(pieces, ['one', 'two'])
  })

  law('whoever leaves a stream ends it at the other side too', async ({ a, b }) => {
    let ended = 0
    b.serve('endless', {
      async *stream(_, __, signal) {
        try {
          for (let number = 0; !signal.aborted; number++) {
            yield bytesOf(`${number}`)
            await pause(1)
          }
        } finally {
          ended++
        }
      },
    })
    for await (const _ of a.stream('b', 'endless', bytesOf(''), new AbortController().signal)) break
    await until(() => ended === 1, 'left by a break')
    const stop = new AbortController()
    let seen = 0
    const read = async (): Promise<void> => {
      for await (const _ of a.stream('b', 'endless', bytesOf(''), stop.signal)) {
        if (++seen === 3) stop.abort()
      }
    }
    await assert.rejects(read(), fails('CANCELLED'))
    await until(() => ended === 2, 'left by a signal')
  })

  law('a reader that stands still stops what makes the pieces', async ({ a, b }) => {
    let made = 0
    const piece = pattern(1, 256 * 1024)
    b.serve('flood', {
      async *stream() {
        for (; made < 1000; made++) yield piece
      },
    })
    let read = 0
    for await (const _ of a.stream('b', 'flood', bytesOf(''), new AbortController().signal)) {
      if (++read === 2) {
        let before = -1
        while (made !== before) {
          before = made
          await pause(200)
        }
        // 16 MiB at most between the two: the windows of the transport and the queues of both ends.
        assert.ok(made <= 64, `${made} pieces were made for a reader that took 2`)
      }
      if (read === 300) break
    }
    assert.ok(made >= read - 1)
  })

  law('a connection that ends is told, and ends what waits on it; the next one works', async (subject) => {
    const { a, b } = subject
    const seen = serveSilence(b)
    b.serve('echo', { request: async (_, message) => message })
    b.serve('endless', {
      async *stream(_, __, signal) {
        while (!signal.aborted) {
          yield bytesOf('x')
          await pause(5)
        }
      },
    })
    const changes: string[] = []
    const stopListening = a.onChange((peer, isConnected) => changes.push(`${peer} ${isConnected}`))
    const waiting = a.request('b', 'silence', bytesOf('x'), { deadlineMs: 60_000 })
    waiting.catch(() => {})
    let pieces = 0
    const reading = (async () => {
      for await (const _ of a.stream('b', 'endless', bytesOf(''), new AbortController().signal)) pieces++
    })()
    reading.catch(() => {})
    await until(() => seen.started === 1 && pieces > 0, 'both are under way')
    const heal = subject.cut()
    await assert.rejects(waiting, fails('PEER_UNREACHABLE'))
    await assert.rejects(reading, fails('PEER_UNREACHABLE'))
    await until(() => !a.connected().includes('b'), 'a sees it')
    await until(() => seen.aborted === 1, 'b sees it')
    assert.deepEqual(changes, ['b false'])
    await assert.rejects(a.request('b', 'echo', bytesOf('x')), fails('PEER_UNREACHABLE'))
    assert.ok(a.connected().includes('c'))
    heal()
    await until(() => a.connected().includes('b') && b.connected().includes('a'), 'they are connected again')
    assert.deepEqual(changes, ['b false', 'b true'])
    assert.equal(textOf(await a.request('b', 'echo', bytesOf('again'))), 'again')
    stopListening()
    subject.cut()()
    await pause(50)
    assert.deepEqual(changes, ['b false', 'b true'])
  })

  law('a peer that is silent costs a deadline, and the connection in bounded time', async (subject) => {
    if (subject.stop === undefined) return
    const { a, b } = subject
    b.serve('echo', { request: async (_, message) => message })
    const heal = subject.stop()
    await assert.rejects(
      a.request('b', 'echo', bytesOf('x'), { deadlineMs: 200 }),
      fails('DEADLINE_EXCEEDED'),
    )
    // What is sent into the silence is bounded.
    for (let count = 0; count < 200; count++) a.send('b', 'news', pattern(count, 100_000))
    await until(() => !a.connected().includes('b'), 'the connection counts as lost')
    heal()
    await until(() => a.connected().includes('b'), 'they are connected again')
    assert.equal(textOf(await a.request('b', 'echo', bytesOf('again'))), 'again')
  })
}
