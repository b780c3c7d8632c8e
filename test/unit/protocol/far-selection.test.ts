import assert from 'node:assert/strict'
import test from 'node:test'
import type { SelectInput, TransportCandidate } from '../../../core/contract/policy.ts'
import { createDefaultSelection } from '../../../core/protocol/default-selection.ts'

const way = (
  transport: 'tcp' | 'quic',
  bytesPerSecond: number,
  state: 'up' | 'down' = 'up',
): TransportCandidate => ({
  ...{ transport, state, distance: 4, rttP50Ms: 80, rttP99Ms: 80, jitterMs: 0, loss: 0, bytesPerSecond },
  ...{ costPerGb: 0, load: 0, health: 1, inFlight: 0 },
})

const indexOf = (candidates: readonly TransportCandidate[], more: Partial<SelectInput> = {}): number =>
  createDefaultSelection()({
    ...{ nowMs: 0, deadlineMs: 0, seed: 1, requestHash: 0n, tenant: 0, bucket: 0, operation: 'read' },
    ...{ byteLength: 1 << 22, sloMs: 0, consistency: 'local', currentIndex: -1, currentForMs: 0 },
    ...{ candidates, ...more },
  } as SelectInput).index

test('for bulk between regions the way that was found to be widest is taken, and left for one that is clearly wider', () => {
  const ways = [way('tcp', 2e6), way('tcp', 17e6), way('quic', 4e6), way('quic', 9e7, 'down')]
  assert.equal(indexOf(ways), 1)
  const long = { currentForMs: 600_000 }
  assert.equal(indexOf(ways, { ...long, currentIndex: 2 }), 1)
  assert.equal(indexOf([way('tcp', 17e6), way('quic', 16e6)], { ...long, currentIndex: 1 }), 1)
  // What is in use for less than ten seconds is not left while it works.
  assert.equal(indexOf(ways, { currentIndex: 2, currentForMs: 1_000 }), 2)
  // Where it is not known what will be carried, or nothing was measured, the name decides.
  assert.equal(indexOf(ways, { byteLength: -1 }), 2)
  assert.equal(indexOf([way('tcp', 0), way('quic', 0)]), 1)
})
