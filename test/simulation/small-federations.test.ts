import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runApart } from './apart.ts'
import { mutations } from './federation-mutations.ts'
import { type ManyRuns, tell, toldOf } from './many-runs.ts'

/** PANDO_SEEDS=10000 for the large run: ten minutes of processor time for failover, five for replication. */
const seeds = Number(process.env['PANDO_SEEDS'] ?? 250)
const first = Number(process.env['PANDO_FIRST_SEED'] ?? 1)
const module = './small-federations.js'

async function provesMuch(
  t: { diagnostic(message: string): void },
  many: ManyRuns,
  often: readonly string[],
): Promise<void> {
  const total = await tell(t, many)
  // Runs in which nothing happened prove nothing.
  for (const what of often) assert.ok((total[what] ?? 0) > many.count / 50, `${what}: only ${total[what]}`)
}

test(
  'small federations: one region acknowledges in an epoch, sync writes survive, a planned change loses nothing, what is lost is listed',
  {
    timeout: 3_600_000,
  },
  (t) =>
    provesMuch(t, { module, name: 'failover', first, count: seeds }, [
      ...['acknowledged', 'refused', 'faults', 'reigns', 'planned', 'lost', 'listed'],
    ]),
)

test(
  'small federations of regions with three gateways: the same, whichever of them is asked, stands still or is gone',
  {
    timeout: 3_600_000,
  },
  (t) =>
    provesMuch(t, { module, name: 'wideFailover', first, count: Math.ceil(seeds / 10) }, [
      ...['acknowledged', 'refused', 'faults', 'reigns'],
    ]),
)

test(
  'small federations: copies hold what their source held, whatever breaks',
  {
    timeout: 3_600_000,
  },
  (t) =>
    provesMuch(t, { module, name: 'replication', first, count: seeds }, [
      ...['operations', 'applied', 'crashes', 'lost', 'fullSyncs', 'compared'],
    ]),
)

for (const { title, known } of mutations) {
  test(`caught: ${title}`, { timeout: 600_000 }, async (t) => {
    const code = new URL('./federation-mutations.js', import.meta.url)
    const [found] = await runApart<{ readonly seed: number; readonly why: string } | undefined>(
      code,
      'caught',
      [[title, 3_000]],
    )
    assert.ok(found !== undefined, 'no seed shows it')
    t.diagnostic(toldOf(found, known))
  })
}
