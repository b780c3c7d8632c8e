// A region of six nodes: objects of 16 MiB as three copies and as fragments of 4+2, also read with one node away, in one run.
// Usage: npm run bench -- erasure [--rounds N] [--requests N] [--against URL [--against-processes NAME,...]]. Needs root and nats-server: the
// nodes are hosts in namespaces of their own. Another store (../region/other-store.ts) is measured in turn with them.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { runInOwnNamespaces } from '../../kit/region/own-namespaces.ts'
import { describeMachine, formatTable } from '../machine.ts'
import { openOtherStore, otherStoreOptions } from '../region/other-store.ts'
import type { ErasureMeasurement } from './measure.ts'

const { values } = parseArgs({
  options: {
    ...otherStoreOptions,
    rounds: { type: 'string', default: '3' },
    requests: { type: 'string', default: '6' },
  },
})
const { rounds, requests, against } = values
console.log(describeMachine())
const directory = mkdtempSync(join(tmpdir(), 'pando-bench-erasure-'))
const into = join(directory, 'figures.json')
let measured: ErasureMeasurement
try {
  await runInOwnNamespaces(
    resolve(import.meta.dirname, 'measure.js'),
    [
      '--into',
      into,
      '--rounds',
      rounds,
      '--requests',
      requests,
      ...(against === '' ? [] : ['--against', against]),
    ],
    1_800_000,
    openOtherStore(against, values['against-processes']),
  )
  measured = JSON.parse(readFileSync(into, 'utf8')) as ErasureMeasurement
} finally {
  rmSync(directory, { recursive: true, force: true })
}
const rows = measured.cases.flatMap(({ name, copies, coded, other }) =>
  [
    { kind: 'three copies', summary: copies },
    { kind: '4+2', summary: coded },
    ...(other === undefined ? [] : [{ kind: against, summary: other }]),
  ].map(({ kind, summary }) => [
    name,
    kind,
    summary.p50Ms.toFixed(0),
    (measured.byteLength / 1000 / summary.p50Ms).toFixed(0),
    summary.cpuMsPerRequest > 0 ? summary.cpuMsPerRequest.toFixed(0) : '',
    summary === copies
      ? ''
      : `time ${(summary.p50Ms / copies.p50Ms).toFixed(2)}x, CPU ${(summary.cpuMsPerRequest / copies.cpuMsPerRequest).toFixed(2)}x`,
  ]),
)
console.log(`\n16 MiB, one request at a time, ${rounds} rounds of ${requests}; processor time of all nodes\n`)
console.log(formatTable(['', '', 'p50, ms', 'MB/s', 'CPU ms/request', 'against three copies'], rows))
writeFileSync(
  'test/bench/results/erasure.json',
  `${JSON.stringify({ machine: describeMachine(), ...measured }, undefined, 2)}\n`,
)
process.exit(0)
