import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Barrier } from '../../../../core/catalog/replicated/barrier.ts'
import { placeAnswer } from '../../../../core/catalog/replicated/peer-messages.ts'
import type { Replica } from '../../../../core/catalog/replicated/replica.ts'
import { emptyObject, etagOf, putCommand } from '../../../kit/catalog-commands.ts'
import { makeRegion, type TestNode, type TestRegion } from '../../../kit/replicated-region.ts'

const timeout = 60_000

const openThree = (t: TestContext) => openRegionOf(t, ['a', 'b', 'c'])

async function openRegionOf(
  t: TestContext,
  names: readonly string[],
): Promise<{ region: TestRegion; a: TestNode; nodes: readonly TestNode[]; asked: string[]; read: string[] }> {
  const region = await makeRegion(t, names)
  const nodes = await Promise.all(names.map((name) => region.open(name)))
  await Promise.all(nodes.map(({ catalog }) => catalog.ready()))
  const [a] = nodes
  assert.ok(a)
  await a.catalog.barrier()
  const asked: string[] = []
  const request = a.peers.request.bind(a.peers)
  a.peers.request = (to, ...rest) => {
    asked.push(to)
    return request(to, ...rest)
  }
  const read: string[] = []
  const readBoard = a.peers.read.bind(a.peers)
  a.peers.read = (from, ...rest) => {
    asked.push(from)
    read.push(from)
    return readBoard(from, ...rest)
  }
  return { region, a, nodes, asked, read }
}

test('a linearizable read asks as many voters as it needs and no more', { timeout }, async (t) => {
  const { a, asked } = await openThree(t)
  for (let round = 0; round < 20; round++) await a.catalog.barrier()
  // One that was slow for once is asked together with the other: on a machine that does much else.
  assert.ok(asked.length >= 20 && asked.length < 30, `asked ${asked.length} times in 20 rounds`)
  asked.length = 0
  await Promise.all(Array.from({ length: 40 }, () => a.catalog.barrier()))
  assert.ok(asked.length <= 4, `asked ${asked.length} times for 40 who came at once`)
})

test('of an even number of voters half are enough, since no write goes without one of them', {
  timeout,
}, async (t) => {
  const four = await openRegionOf(t, ['a', 'b', 'c', 'd'])
  for (let round = 0; round < 20; round++) await four.a.catalog.barrier()
  assert.ok(
    four.asked.length >= 20 && four.asked.length < 30,
    `asked ${four.asked.length} times in 20 rounds`,
  )
})

test('of two voters each reads by itself what the other has written, and alone nothing', {
  timeout,
}, async (t) => {
  const { region, a, nodes, asked } = await openRegionOf(t, ['a', 'b'])
  const [, b] = nodes
  assert.ok(b)
  const { id } = await b.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  for (let round = 0; round < 50; round++) {
    await b.catalog.submit(putCommand(id, `key ${round}`, emptyObject(etagOf(round))))
    await a.catalog.barrier()
    assert.ok(a.catalog.object(id, `key ${round}`), `key ${round} was acknowledged and is not there`)
  }
  asked.length = 0
  const startMs = performance.now()
  for (let round = 0; round < 500; round++) await a.catalog.barrier()
  const mostAsked = 1 + (performance.now() - startMs) / 250
  assert.ok(
    asked.length <= mostAsked,
    `asked ${asked.length} times, at most ${mostAsked} to see that it is there`,
  )
  region.network.cut('a', 'b')
  await sleep(300)
  // It may have been given up meanwhile.
  await assert.rejects(a.catalog.barrier(), /majority of the voters/)
  region.network.heal()
  await a.catalog.barrier()
})

test('readers that come by twos in turns one after the other share a question, and it waits for few of them', {
  timeout,
}, async (t) => {
  const { a, read } = await openThree(t)
  /** How often it was asked while two came in each turn. */
  const inTurns = async (goesOn: (turn: number) => boolean): Promise<number> => {
    read.length = 0
    const reads: Promise<void>[] = []
    for (let turn = 0; goesOn(turn); turn++) {
      reads.push(a.catalog.barrier(), a.catalog.barrier())
      await new Promise((resolve) => setImmediate(resolve))
    }
    const asked = read.length
    await Promise.all(reads)
    return asked
  }
  assert.equal(await inTurns((turn) => turn < 6), 0, 'it was asked while others still came')
  const isOpen = (turn: number): boolean => read.length === 0 && turn < 100_000
  assert.ok((await inTurns(isOpen)) >= 1, 'it was not asked for as long as others came')
})

test('readers who had an answer together are waited for when the first of them comes back, though not for long, and a lone reader waits for nobody', {
  timeout,
}, async (t) => {
  const { a } = await openThree(t)
  const readBoard = a.peers.read.bind(a.peers)
  const asked: number[] = []
  let answeredMs = Number.NaN
  a.peers.read = async (from, ...rest) => {
    asked.push(performance.now())
    await sleep(8)
    const notice = await readBoard(from, ...rest)
    answeredMs = performance.now()
    return notice
  }
  const turns = async (count: number): Promise<void> => {
    for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve))
  }
  const readers: Promise<void>[] = []
  const come = (count: number): void => {
    for (let index = 0; index < count; index++) readers.push(a.catalog.barrier())
  }
  const answer = (): Promise<unknown> => Promise.all(readers.splice(0))
  for (let round = 0; round < 20; round++) {
    asked.length = 0
    come(1)
    await turns(4)
    // Where the turns took long, the other one has been asked as well.
    assert.ok(asked.length >= 1, 'a lone reader waited')
    await answer()
  }
  // A machine that is busy otherwise may take longer over the turns than they are waited for: then once more.
  let early = 1
  for (let round = 0; round < 20 && early > 0; round++) {
    come(5)
    await answer()
    asked.length = 0
    for (let back = 0; back < 3; back++) {
      come(1)
      await turns(12)
    }
    early = asked.length
    come(2)
    await turns(4)
    if (early === 0) assert.ok(asked.length >= 1, 'all of them are back, and still it was not asked')
    await answer()
  }
  assert.equal(early, 0, 'it was asked while readers came back')
  come(5)
  await answer()
  const beforeMs = answeredMs
  asked.length = 0
  come(2)
  await answer()
  const restedMs = (asked[0] ?? 0) - beforeMs
  assert.ok(restedMs >= 1, `those who did not come were waited for ${restedMs} ms`)
})

test('who comes after a question was asked does not share it', { timeout }, async (t) => {
  const { a } = await openThree(t)
  const readBoard = a.peers.read.bind(a.peers)
  const asked: string[] = []
  let answer: () => void = () => undefined
  const mayAnswer = new Promise<void>((resolve) => {
    answer = resolve
  })
  a.peers.read = async (from, ...rest) => {
    asked.push(from)
    await mayAnswer
    return readBoard(from, ...rest)
  }
  const early = a.catalog.barrier()
  while (asked.length === 0) await new Promise((resolve) => setImmediate(resolve))
  const [first = ''] = asked
  const late = a.catalog.barrier()
  answer()
  await Promise.all([early, late])
  assert.equal(asked.filter((from) => from === first).length, 2)
})

test('what a voter has posted is read without asking it, and it is asked where nothing can be read', {
  timeout,
}, async (t) => {
  const { a, asked, read } = await openThree(t)
  for (let round = 0; round < 20; round++) await a.catalog.barrier()
  // One that was slow for once was asked, too.
  assert.ok(read.length >= 20 && asked.length - read.length < 5, `${read.length} of ${asked.length}`)
  a.peers.read = async () => undefined
  asked.length = 0
  for (let round = 0; round < 20; round++) await a.catalog.barrier()
  assert.ok(asked.length >= 20 && asked.length < 30, `asked ${asked.length} times in 20 rounds`)
  a.peers.read = async () => Uint8Array.from({ length: 24 }, () => 255)
  asked.length = 0
  await a.catalog.barrier()
  assert.ok(asked.length >= 1, "somebody else's notice is none")
})

test('a node that is cut off from the others answers who is content with what it has, and nobody else', {
  timeout,
}, async (t) => {
  const { region, a, asked } = await openThree(t)
  const { id } = await a.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  await a.catalog.submit(putCommand(id, 'kept', emptyObject()))
  for (const other of ['b', 'c']) region.network.silence('a', other)
  asked.length = 0
  await a.catalog.barrier('local')
  assert.deepEqual(asked, [])
  assert.ok(a.catalog.object(id, 'kept') !== undefined)
  await assert.rejects(a.catalog.barrier(), { code: 'UNAVAILABLE' })
})

test('a voter that does not answer holds up one linearizable read, and not for long', {
  timeout,
}, async (t) => {
  const { region, a, read } = await openThree(t)
  await a.catalog.barrier()
  const [preferred = ''] = read
  const other = preferred === 'b' ? 'c' : 'b'
  region.network.silence('a', preferred)
  read.length = 0
  await a.catalog.barrier()
  assert.deepEqual(read.slice(0, 2), [preferred, other])
  read.length = 0
  await a.catalog.barrier()
  assert.equal(read[0], other)
})

test('what requests are judged by is told apart from objects, and nodes that do not know the difference are understood', {
  timeout,
}, async (t) => {
  const { region, a } = await openThree(t)
  const late = await region.open('late')
  await late.catalog.ready()
  const bucket = await a.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  await late.catalog.barrier('rules')
  assert.equal(late.catalog.bucket('photos')?.id, bucket.id)
  const rules = a.catalog.status().position
  for (let index = 0; index < 3; index++)
    await a.catalog.submit(putCommand(bucket.id, `key ${index}`, emptyObject(etagOf(index))))
  const notice = Buffer.from((await late.peers.read('a', 1000)) ?? [])
  assert.deepEqual([notice.readUIntLE(12, 6), notice.readUIntLE(18, 6)], [rules + 3, rules])
  const answer = { incarnation: 'i', position: 7, rules: 3 }
  assert.deepEqual(placeAnswer.decode(placeAnswer.encode(answer, true)), answer)
  assert.deepEqual(placeAnswer.decode(placeAnswer.encode(answer, false)), { ...answer, rules: 7 })
})

test('whoever has judged by a key hears with the read point that it may have changed, and nothing of objects', {
  timeout,
}, async (t) => {
  const { region, a } = await openThree(t)
  const record = { accessKeyId: 'K', account: 'bob', name: '', enabled: true, createdMs: 1 }
  await a.catalog.submit({
    type: 'put-access-key',
    record: { ...record, sealedSecret: new Uint8Array(3) },
  })
  const bucket = await a.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  const late = await region.open('late')
  await late.catalog.ready()
  await late.catalog.barrier()
  const before = late.catalog.rulesSeen()
  await a.catalog.submit(putCommand(bucket.id, 'key', emptyObject(etagOf(1))))
  await late.catalog.barrier()
  assert.equal(late.catalog.rulesSeen(), before)
  await a.catalog.submit({ type: 'set-access-key-enabled', accessKeyId: 'K', enabled: false })
  await late.catalog.barrier('rules')
  assert.equal(late.catalog.accessKey('K')?.enabled, false)
  assert.notEqual(late.catalog.rulesSeen(), before)
})

test('without a majority a linearizable read fails, and works again with it', { timeout }, async (t) => {
  const { region, a } = await openThree(t)
  region.network.silence('a', 'b')
  region.network.silence('a', 'c')
  await assert.rejects(a.catalog.barrier(), { code: 'UNAVAILABLE' })
  region.network.heal()
  await a.catalog.barrier()
})

test('whoever lost its vote and has it again while it asks looks again', async () => {
  const names = ['a 1', 'b 1', 'c 1', 'd 1']
  const places: Record<string, number> = { 'a 1': 9, 'c 1': 9, 'd 1': 9 }
  const answers: (() => void)[] = []
  let isSlow = false
  const waiting = new Set<() => void>()
  const replica = {
    row: { voterSets: [{ position: 0, voters: names }], founding: { log: 'l' } },
    store: { position: 9, rules: 9 },
    shown: 9,
    isReadable: true,
    selfId: 'b 1',
    pace: { requestMs: 1000 },
    rejoin: { isDone: true },
    closing: new AbortController(),
    nowMs: () => 0,
    changed: () => {
      for (const look of waiting) look()
    },
    until: (condition: () => boolean) =>
      new Promise<boolean>((resolve) => {
        const look = (): void => {
          if (!condition()) return
          waiting.delete(look)
          resolve(true)
        }
        waiting.add(look)
        look()
      }),
    options: { peers: { connected: () => ['a', 'c', 'd'] } },
    board: {
      read: async (voter: string) => {
        const position = places[voter] ?? 0
        if (isSlow) await new Promise<void>((resolve) => answers.push(resolve))
        return { position, rules: position }
      },
    },
  }
  const barrier = new Barrier(replica as unknown as Replica)
  await barrier.wait() // A majority is seen.
  Object.assign(places, { 'a 1': 15, 'c 1': 10, 'd 1': 15 })
  isSlow = true
  const read = barrier.wait() // Entry 15 is acknowledged already.
  await new Promise((resolve) => setImmediate(resolve))
  replica.store = { position: 25, rules: 25 }
  replica.row = { ...replica.row, voterSets: [{ position: 20, voters: names }] }
  replica.shown = 12
  setTimeout(() => {
    replica.shown = 25
    replica.changed()
  }, 50)
  isSlow = false
  for (const answer of answers) answer()
  await read
  assert.ok(replica.shown >= 15, `reads at ${replica.shown} what was 15 before it began`)
})
