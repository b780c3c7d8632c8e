import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RepairStatus } from '../../../core/cluster/chunks/repair-parts.ts'
import type { ClusterNode } from '../../../core/contract/cluster-map.ts'
import type { ClusterRepairReport } from '../../../core/contract/cluster-report.ts'
import { type ClusterView, type NodeView, reportCluster } from '../../../core/node/cluster/cluster-report.ts'
import { encodeNodeReport, parseNodeReport, repairReport } from '../../../core/node/cluster/repair-report.ts'

const idle: ClusterRepairReport = {
  checked: 10,
  total: 10,
  missing: 0,
  lost: 0,
  repairedChunks: 0,
  repairedBytes: 0,
  removedChunks: 0,
  isWalking: false,
  isKnown: true,
  movedNodes: 0,
  movingNodes: 0,
}
const member = (name: string, more: Partial<ClusterNode> = {}): ClusterNode => ({
  name,
  zone: '',
  rack: '',
  weight: 1,
  incarnation: 'ab'.repeat(16),
  state: 'active',
  voter: true,
  control: 'h:1',
  transports: {},
  ...more,
})
const alive: NodeView = {
  health: 'alive',
  silentForMs: 3,
  transport: 'tcp',
  report: { repair: idle, waitsFor: '' },
}
const dead: NodeView = { health: 'dead', silentForMs: 9000, transport: '', report: undefined }

function view(more: Partial<ClusterView> = {}): ClusterView {
  return {
    node: 'n1',
    map: { epoch: 4, replicas: 3, nodes: [member('n1'), member('n2'), member('n3')] },
    acks: 'quorum',
    coordinator: 'n1',
    catalog: {
      generation: 1,
      position: 50,
      confirmed: 50,
      isVoter: true,
      voters: [{ name: 'n2', incarnation: 'ab'.repeat(16), position: 49 }],
      activity: 'following',
      problems: [],
      pendingEntries: 0,
    },
    servers: { text: '3 of 3', isReachable: true },
    repair: idle,
    others: new Map([
      ['n2', alive],
      ['n3', alive],
    ]),
    ...more,
  }
}

test('a region in which all is well is safe, and nothing is said against it', () => {
  const report = reportCluster(view())
  assert.deepEqual([report.isSafe, report.findings, report.log.isWritable], [true, [], true])
  assert.deepEqual(
    report.nodes.map(({ name, health, position, coordinator, complete }) => [
      name,
      health,
      position,
      coordinator,
      complete,
    ]),
    [
      ['n1', 'alive', 50, true, true],
      ['n2', 'alive', 49, false, true],
      ['n3', 'alive', 0, false, true],
    ],
  )
})

test('one dead node of three: what that means and what to do is said', () => {
  const { isSafe, findings } = reportCluster(
    view({
      others: new Map([
        ['n2', alive],
        ['n3', dead],
      ]),
    }),
  )
  assert.equal(isSafe, false)
  assert.match(findings.join('\n'), /2 of 3 voters answer: if one more goes/)
  assert.match(findings.join('\n'), /n3 does not answer.*pando node remove n3 --force/)
})

test('without a majority nothing can be written, and that comes first', () => {
  const { findings, log } = reportCluster(
    view({
      others: new Map([
        ['n2', dead],
        ['n3', dead],
      ]),
    }),
  )
  assert.match(findings[0] ?? '', /only 1 of 3 voters answer: nothing can be written until 2 do/)
  assert.equal(log.isWritable, false, 'though the server here answers')
})

test('missing copies count wherever they are missing', () => {
  const others = new Map([
    ['n2', { ...alive, report: { repair: { ...idle, missing: 4 }, waitsFor: '' } }],
    ['n3', alive],
  ])
  const { isSafe, findings } = reportCluster(view({ others, repair: { ...idle, missing: 2 } }))
  assert.equal(isSafe, false)
  assert.deepEqual(findings, ['6 copies or fragments of chunks are missing: they are made again'])
})

test('what is nowhere is told first, and as what it is: lost, at every node that says so, and repaired by nobody', () => {
  const others = new Map([
    ['n2', { ...alive, report: { repair: { ...idle, lost: 4 }, waitsFor: '' } }],
    ['n3', alive],
  ])
  const servers = { text: 'none of 3', isReachable: false }
  const { isSafe, lost, findings, repair } = reportCluster(
    view({ others, servers, repair: { ...idle, lost: 2 } }),
  )
  assert.deepEqual([isSafe, lost, repair.lost], [false, 6, 2])
  assert.match(
    findings[0] ?? '',
    /^6 copies or fragments of chunks are nowhere: data is lost; 'pando debug scan' names the objects$/,
  )
  assert.doesNotMatch(findings.join('\n'), /made again/)
})

test('a lost chunk is counted once, and not among those that are being made again', () => {
  const status: RepairStatus = {
    ...{ state: 'idle', complete: false, isKnown: true, completeFor: undefined, problem: '' },
    ...{ checkedChunks: 9, missingChunks: 5, unresolvedChunks: 3, lostChunks: 2 },
    ...{ queuedChunks: 4, queuedBytes: 0, fetchedChunks: 0, fetchedBytes: 0, rounds: 1 },
    ...{ leftoverChunks: 0, freedLeftovers: 0 },
  }
  const { missing, lost } = repairReport(status)
  assert.deepEqual([missing, lost], [5, 2])
})

test('a node of an older version, which does not tell what is lost, is heard all the same', () => {
  const told = JSON.parse(Buffer.from(encodeNodeReport({ repair: idle, waitsFor: '' })).toString('utf8'))
  delete told.lost
  assert.deepEqual(parseNodeReport(Buffer.from(JSON.stringify(told))), { repair: idle, waitsFor: '' })
})

test('as long as a node does not know what it lacks, or does not say, nothing is called safe', () => {
  const others = new Map([
    ['n2', { ...alive, report: { repair: { ...idle, isKnown: false }, waitsFor: '' } }],
    ['n3', { ...alive, report: undefined }],
  ])
  const { isSafe, findings } = reportCluster(view({ others, repair: { ...idle, isKnown: false } }))
  assert.equal(isSafe, false)
  assert.deepEqual(findings, [
    'n3: which chunks are missing there is not told',
    'n1, n2: whether chunks are missing there is not known before all that should be there has been looked at',
  ])
})

test('while chunks move, who has all of his is told; whoever holds nothing does not keep the others waiting', () => {
  const nodes = [
    member('n1'),
    member('n2'),
    member('n3'),
    member('n4', { state: 'joining', voter: false, weight: 0 }),
  ]
  const moving = { fromEpoch: 3, nodes, replicas: 3, complete: ['n2'] }
  const others = new Map([
    ['n2', alive],
    ['n3', alive],
    ['n4', alive],
  ])
  const report = reportCluster(view({ map: { epoch: 4, replicas: 3, nodes, moving }, others }))
  assert.deepEqual([report.repair.movedNodes, report.repair.movingNodes], [1, 3])
  assert.match(report.findings.join('\n'), /1 of 3 nodes have all of theirs\nn4 is joining/)
})

test('when what orders the log does not answer, no writes are promised', () => {
  const report = reportCluster(view({ servers: { text: 'none of 3', isReachable: false } }))
  assert.equal(report.log.isWritable, false)
  assert.match(report.findings[0] ?? '', /^no writes: .*none of 3/)
})

test('voters without room are told of at the others, too: they confirm nothing', () => {
  const full = { ...alive, report: { repair: idle, waitsFor: 'no space is left for its catalog' } }
  const one = reportCluster(
    view({
      others: new Map([
        ['n2', full],
        ['n3', alive],
      ]),
    }),
  )
  assert.deepEqual(
    [one.isSafe, one.findings, one.log.isWritable],
    [false, ['n2: no space is left for its catalog'], true],
  )
  const two = reportCluster(
    view({
      others: new Map([
        ['n2', full],
        ['n3', full],
      ]),
    }),
  )
  assert.equal(two.log.isWritable, false)
})

test('what a node tells of itself survives the way, and what is none is nothing', () => {
  const report = { repair: idle, waitsFor: 'no space' }
  assert.deepEqual(parseNodeReport(encodeNodeReport(report)), report)
  for (const text of ['', '{}', '{"missing":-1}']) assert.equal(parseNodeReport(Buffer.from(text)), undefined)
})

test('a region of many nodes that keeps one copy is not called safe', () => {
  const { isSafe, findings } = reportCluster(view({ map: { ...view().map, replicas: 1 } }))
  assert.equal(isSafe, false)
  assert.match(findings.join('\n'), /one copy each.*lost with it/)
})

test('fewer nodes than copies are told', () => {
  const map = { epoch: 1, replicas: 3, nodes: [member('n1'), member('n2')] }
  const { findings } = reportCluster(view({ map, others: new Map([['n2', alive]]) }))
  assert.match(findings.join('\n'), /2 nodes may hold chunks: 2 copies instead of 3/)
})
