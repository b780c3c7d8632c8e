import { parseArgs } from 'node:util'
import { simulate as catalog } from './catalog.sim.ts'
import { simulateChunks } from './chunks.sim.ts'
import { simulateEdge } from './edge.sim.ts'
import { simulateFailover, small as smallFederation, smallWide, wide } from './failover.sim.ts'
import { simulateLink } from './link.sim.ts'
import { simulateReplicatedLog } from './replicated-log.sim.ts'
import { even, restored, small } from './replicated-log-shapes.ts'
import { simulateReplication, small as smallReplication } from './replication.sim.ts'

/** `npm run simulate -- [name ...] [--seed N] [--steps M] [--runs R]`: runs simulations, from one seed or from many. */
const simulations: Readonly<Record<string, (seed: number, steps: number) => Promise<object>>> = {
  catalog,
  chunks: (seed, steps) => simulateChunks(seed, Math.ceil(steps / 50)),
  edge: (seed, steps) => simulateEdge(seed, Math.ceil(steps / 5)),
  failover: (seed, steps) => simulateFailover(seed, steps),
  'failover-small': (seed, steps) => simulateFailover(seed, steps, smallFederation),
  'failover-wide': (seed, steps) => simulateFailover(seed, steps, wide),
  'failover-wide-small': (seed, steps) => simulateFailover(seed, steps, smallWide),
  link: (seed, steps) => simulateLink(seed, Math.ceil(steps / 20)),
  'replicated-log': (seed, steps) => simulateReplicatedLog(seed, steps),
  'replicated-log-even': (seed, steps) => simulateReplicatedLog(seed, steps, even),
  'replicated-log-restored': (seed, steps) => simulateReplicatedLog(seed, steps, restored),
  'replicated-log-small': (seed, steps) => simulateReplicatedLog(seed, steps, small),
  'replication-small': (seed, steps) => simulateReplication(seed, Math.ceil(steps / 5), smallReplication),
  replication: (seed, steps) => simulateReplication(seed, Math.ceil(steps / 5)),
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string' },
    steps: { type: 'string', default: '2000' },
    runs: { type: 'string', default: '1' },
  },
})
const firstSeed = values.seed === undefined ? Date.now() % 1_000_000 : Number(values.seed)
const names = positionals.length > 0 ? positionals : Object.keys(simulations)
for (const name of names) {
  const run = simulations[name]
  if (run === undefined) {
    console.error(`no simulation is called ${name}; there are: ${Object.keys(simulations).join(', ')}`)
    process.exit(2)
  }
  for (let seed = firstSeed; seed < firstSeed + Number(values.runs); seed++) {
    try {
      console.log(name, `seed ${seed}:`, JSON.stringify(await run(seed, Number(values.steps))))
    } catch (error) {
      console.error(error)
      process.exit(1)
    }
  }
}
