import assert from 'node:assert/strict'
import { test } from 'node:test'
import { boundedReigns } from '../../../core/contract/bounded-reigns.ts'
import { failoverLimits, type GroupRecord, type Reign } from '../../../core/contract/failover.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { renewalOf, Voter } from '../../../federation/failover/voter.ts'
import { serveVoters, tunnelVoters } from '../../../federation/failover/wire.ts'
import { realEnvironment } from '../../kit/catalog-commands.ts'
import { MemoryRegions } from '../../kit/memory-regions.ts'
import { testRegion } from '../../kit/replicated-buckets.ts'

const { clock } = realEnvironment
const members = [1, 2, 3]
const most = Number.MAX_SAFE_INTEGER

/** Everything as long and as much as it may be. */
function largest(nameChars: number, missing: number): GroupRecord {
  const buckets = Array.from({ length: failoverLimits.buckets }, (_, at) =>
    `${at}`.padStart(3, '0').padEnd(nameChars, 'n'),
  )
  const time = { ms: 2 ** 48 - 1, counter: 0xffff }
  const reigns = Array.from(
    { length: failoverLimits.reigns },
    (_, at): Reign => ({
      ...{ epoch: 2 ** 31 + at, primary: 1 + (at % 2), start: time, cause: 'automatic' },
      taken: buckets.map((bucket) => ({
        ...{ bucket, from: 2 - (at % 2), logId: 'f'.repeat(24), received: most, time },
        missing: Array.from({ length: missing }, (_, gap) => most - gap),
      })),
    }),
  )
  return {
    ...{
      name: 'g'.repeat(failoverLimits.name),
      regions: members,
      witnesses: [],
      buckets,
      syncBuckets: buckets,
    },
    ...{ automatic: true, flapMs: 60_000, leaseMs: 8_000, automaticMs: most },
    ...{ primary: 1, epoch: 2 ** 31 + failoverLimits.reigns, revision: most, reigns },
  }
}

/** A primary asks a voter of another region over a tunnel. */
async function asked(record: GroupRecord) {
  const network = new MemoryRegions({ clock })
  const [here, there] = [network.start(1), network.start(2)]
  const { catalog } = testRegion(2)
  const voter = new Voter({ regionId: 2, catalog, clock })
  const stop = serveVoters(
    there,
    (from, question) =>
      question.kind === 'renew'
        ? voter.renew(from, question.record)
        : Promise.resolve(voter.answer('kind' in question && 'group' in question ? question.group : '')),
    silentLogger,
  )
  try {
    const endpoints = Array.from({ length: failoverLimits.endpoints }, () => `https://${'e'.repeat(248)}`)
    const peers = tunnelVoters(here, clock)
    return {
      answer: await peers.ask(2, renewalOf(record, endpoints), 120_000),
      held: catalog.failover.group(record.name)?.record,
    }
  } finally {
    stop()
    network.kill(1)
    network.kill(2)
  }
}

test('a group at all its limits renews its lease: the record fits into a message, in the question and in the answer', async () => {
  for (const [nameChars, missing] of [
    [63, 0],
    [63, 4],
    [63, failoverLimits.missing],
    [255, failoverLimits.missing],
  ] as const) {
    const record = largest(nameChars, missing)
    assert.ok(Buffer.byteLength(JSON.stringify(record)) > 1024 * 1024, 'as it is it would not')
    const { answer, held } = await asked(record)
    assert.equal(answer.isGranted, true, answer.reason)
    const told = answer.record?.reigns ?? []
    assert.deepEqual(held?.reigns, told)
    assert.deepEqual(
      told.map(({ epoch, primary, start }) => ({ epoch, primary, start })),
      record.reigns.map(({ epoch, primary, start }) => ({ epoch, primary, start })),
      'who began when is told of all',
    )
    assert.equal(told.at(-1)?.taken.length, failoverLimits.buckets, 'of the last change everything is told')
    const firstTold = told.findIndex(({ taken }) => taken.length > 0)
    assert.ok(told.slice(firstTold).every(({ taken }) => taken.length === failoverLimits.buckets))
    assert.ok(Buffer.byteLength(JSON.stringify(told)) < 1024 * 1024)
  }
})

test('what is told shorter says more is lost rather than less; what fits is told as it is', () => {
  const small = largest(3, 2)
    .reigns.slice(0, 2)
    .map((reign) => ({ ...reign, taken: reign.taken.slice(0, 3) }))
  assert.deepEqual(boundedReigns(small), small)
  const [only] = boundedReigns(largest(63, failoverLimits.missing).reigns.slice(-1))
  assert.deepEqual(only?.taken[0]?.missing, [])
  assert.equal(
    only?.taken[0]?.received,
    most - failoverLimits.missing,
    'in front of the first that is missing',
  )
  assert.deepEqual(boundedReigns(boundedReigns(largest(63, 9).reigns)), boundedReigns(largest(63, 9).reigns))
})
