import assert from 'node:assert/strict'
import test from 'node:test'
import { type CausalPlace, decodeToken, encodeToken } from '../../../core/gateway/s3/causal-token.ts'
import { CausalHistory } from '../../../sdk/client/causal-history.ts'
import type { PandoError } from '../../../sdk/index.ts'
import { ok, refusal, scriptNetwork, watch } from './scripted-network.ts'

const place = (digit: string, lsn: number, epoch = 1): CausalPlace => ({
  ...{ region: Number.parseInt(digit, 16), epoch, log: digit.repeat(24), lsn },
})
const token = (...places: CausalPlace[]): string => encodeToken({ bucket: 'bucket', places })
const lsnsOf = (text: string | undefined): Record<string, number> =>
  Object.fromEntries(decodeToken(text ?? '').places.map(({ region, lsn }) => [region, lsn]))

test('tokens of answers that came side by side are joined, in the form that gateways take', () => {
  const history = new CausalHistory()
  history.learn('bucket', token(place('1', 5)), undefined)
  history.learn('bucket', token(place('2', 300, 2 ** 40)), undefined)
  history.learn('bucket', token(place('1', 4), place('f', 1)), undefined)
  const all = history.of('bucket')
  assert.deepEqual(lsnsOf(all), { 1: 5, 2: 300, 15: 1 })
  // It has asked with all of that, and is told what came of it: a former primary's log is gone.
  history.learn('bucket', token(place('3', 9)), all)
  assert.deepEqual(lsnsOf(history.of('bucket')), { 3: 9 })
  // Two asked with the same; what the second is told does not undo what the first has heard.
  const sent = history.of('bucket')
  history.learn('bucket', token(place('3', 12), place('4', 1)), sent)
  history.learn('bucket', token(place('3', 10)), sent)
  assert.deepEqual(lsnsOf(history.of('bucket')), { 3: 12, 4: 1 })
})

test('a client that forgets nothing stays bounded: 16 places of a bucket, the newest epochs', () => {
  const history = new CausalHistory()
  for (let index = 0; index < 40; index++) {
    const log = index.toString(16).padStart(24, '0')
    history.learn('bucket', token({ region: 1, epoch: index + 1, log, lsn: 1 }), undefined)
  }
  const { places } = decodeToken(history.of('bucket') ?? '')
  assert.equal(places.length, 16)
  assert.equal(Math.min(...places.map(({ epoch }) => epoch)), 25)
})

test('what is no token is not adopted', () => {
  const history = new CausalHistory()
  const real = token(place('1', 5))
  for (const wrong of ['', '*', 'AAAA', real.slice(0, -2), `${real}AAAA`]) {
    assert.throws(() => history.adopt(wrong), { code: 'InvalidArgument' }, wrong)
  }
  history.adopt(real)
  assert.equal(history.of('bucket'), real)
})

test('a causal client brings what it has seen; another one only remembers it', async () => {
  const network = scriptNetwork()
  const told = token(place('1', 5))
  network.serve('a', () => ok({ 'x-pando-token': told }))
  for (const consistency of ['causal', undefined] as const) {
    const client = network.client(consistency === undefined ? {} : { consistency })
    const put = await client.put('bucket', 'key', 'x')
    assert.deepEqual(
      [put.token, client.lastToken('bucket'), client.lastToken('other')],
      [told, told, undefined],
    )
    await client.head('bucket', 'key').catch(() => {})
    const { headers } = network.requests.at(-1) ?? assert.fail()
    assert.equal(headers.get('x-pando-token'), consistency === 'causal' ? told : null)
    const isSigned = headers.get('authorization')?.includes('x-pando-token') === true
    assert.equal(isSigned, consistency === 'causal', 'what the server relies on is signed')
  }
})

test('while one region is behind the region of origin is asked, and nobody rests for it', async () => {
  const network = scriptNetwork()
  const told = token(place('1', 5))
  const here = { 'x-pando-region': '2' }
  network.serve('a', () => refusal(503, 'ReplicaBehind', '<OriginRegion>1</OriginRegion>', here))
  network.serve('b', () => ok({ 'x-pando-region': '1', 'x-pando-token': told }, '<Tagging/>'))
  const client = network.client({
    endpoints: [
      { url: 'http://a', group: 'a' },
      { url: 'http://b', group: 'b' },
    ],
    consistency: 'causal',
  })
  client.useToken(told)
  const seen = watch(client.getTags('bucket', 'key'))
  await network.clock.advance(2_000)
  assert.equal(seen.error, undefined)
  assert.deepEqual(
    network.requests.map(({ host }) => host),
    ['a', 'b'],
  )
})

test('a region that stays behind is asked until the deadline, not until the attempts are used up', async () => {
  const network = scriptNetwork()
  network.serve('a', () => refusal(503, 'ReplicaBehind'))
  const client = network.client({ consistency: 'causal', deadlineMs: 10_000, maxAttempts: 2, retryBudget: 1 })
  client.useToken(token(place('1', 5)))
  const seen = watch(client.getTags('bucket', 'key'))
  await network.clock.advance(11_000)
  assert.equal((seen.error as PandoError).code, 'DeadlineExceeded')
  assert.ok(network.requests.length > 10, `${network.requests.length} attempts`)
})

test('a lost write is told once, and then not asked for again', async () => {
  const network = scriptNetwork()
  const told = token(place('1', 5))
  network.serve('a', ({ headers, method }) =>
    headers.get('x-pando-token') === null
      ? ok()
      : method === 'HEAD'
        ? new Response(null, { status: 409 })
        : refusal(409, 'WriteLost'),
  )
  const client = network.client({ consistency: 'causal' })
  for (const ask of [() => client.put('bucket', 'key', 'x'), () => client.head('bucket', 'key')]) {
    client.useToken(told)
    await assert.rejects(ask(), { code: 'WriteLost', retryable: false, attempts: 1 })
    assert.equal(client.lastToken('bucket'), undefined)
    await client.put('bucket', 'key', 'x')
  }
})

test('waitFor counts answers of the named region only', async () => {
  const network = scriptNetwork()
  const told = token(place('1', 5))
  let asked = 0
  network.serve('a', () => ok({ 'x-pando-region': '1' }))
  network.serve('b', () =>
    ++asked < 3
      ? refusal(503, 'ReplicaBehind', '', { 'x-pando-region': '2' })
      : ok({ 'x-pando-region': '2' }),
  )
  const client = network.client({
    endpoints: [
      { url: 'http://a', group: 'a' },
      { url: 'http://b', group: 'b' },
    ],
  })
  const seen = watch(client.waitFor(told, 2))
  await network.clock.advance(5_000)
  assert.equal(seen.error, undefined)
  assert.equal(asked, 3)
  const { target, headers } = network.requests.at(-1) ?? assert.fail()
  assert.match(target, /^\/bucket\?list-type=2&max-keys=0$/)
  assert.equal(headers.get('x-pando-token'), told)
  await assert.rejects(client.waitFor(told, 9), { code: 'WrongRegion' })
  await assert.rejects(client.waitFor('nonsense', 2), { code: 'InvalidArgument' })
})
