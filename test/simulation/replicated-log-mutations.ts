import assert from 'node:assert/strict'
import { Barrier } from '../../core/catalog/replicated/barrier.ts'
import { reportOf } from '../../core/catalog/replicated/branch-report.ts'
import { Confirmations } from '../../core/catalog/replicated/confirmations.ts'
import { type Ballot, compareBallots, type VoterSet } from '../../core/catalog/replicated/generation.ts'
import { Rejoin } from '../../core/catalog/replicated/rejoin.ts'
import { Replica } from '../../core/catalog/replicated/replica.ts'
import { type Caught, firstBroken } from './many-runs.ts'
import type { ReplicaDisk } from './replica-disk.ts'
import { simulateReplicatedLog } from './replicated-log.sim.ts'
import { even, type LogShape, restored, small } from './replicated-log-shapes.ts'

/** The checker is checked: a protocol with one rule less must be caught, in the configuration that is run ten thousand times. */
interface Mutation {
  readonly name: string
  /** A seed that has caught it: looked at first, since some take hundreds. */
  readonly known: number
  readonly shape?: LogShape
  /** For good: in a thread that ends afterwards. */
  apply?(): void
  onCrash?(disk: ReplicaDisk): void
}

export const mutations: readonly Mutation[] = [
  {
    name: 'one voter less than a majority confirms',
    known: 2,
    apply: () =>
      replace(Confirmations.prototype, 'position', function (this: Confirmations, sets, tip, self) {
        const { voters } = (sets as readonly VoterSet[]).at(-1) ?? { voters: [] }
        const reaches = voters
          .map((voter) => (voter === self ? (tip as number) : this.reach(voter)))
          .sort((left, right) => right - left)
        return Math.min(tip as number, reaches[Math.floor(voters.length / 2) - 1] ?? -1)
      }),
  },
  {
    name: 'a claim counts whatever its chain is',
    known: 31,
    apply: () =>
      replace(
        Confirmations.prototype,
        'check',
        function (this: { proven: Map<string, number> }, voter, claim) {
          const { position } = claim as { position: number }
          this.proven.set(voter as string, Math.max(position, this.proven.get(voter as string) ?? -1))
          return true
        },
      ),
  },
  {
    name: 'a commit is told before it is durable',
    known: 236,
    onCrash(disk) {
      const { founding } = disk.row
      const durable = disk.past.find(({ row }) => row.founding === founding)
      disk.past = []
      if (durable === undefined) return
      disk.log.length = durable.length
      disk.row = { ...durable.row, promised: disk.row.promised }
    },
  },
  {
    name: 'a linearizable read asks nobody',
    known: 6,
    apply: () =>
      replace(
        Barrier.prototype,
        'askVoters',
        async function (this: { replica: { store: { position: number; rules: number } } }) {
          const { position, rules } = this.replica.store
          return { position, rules }
        },
      ),
  },
  {
    name: 'a read asks fewer than meet every majority',
    shape: even,
    known: 91,
    apply: () => replace(Barrier.prototype, 'neededOf', () => () => 1),
  },
  {
    name: 'a disk that was restored from an older image votes at once',
    shape: restored,
    known: 191,
    apply: () =>
      replace(Rejoin.prototype, 'run', async function (this: Rejoin) {
        this.isDone = true
      }),
  },
  {
    name: 'a promise is answered and not kept',
    known: 1107,
    apply: () =>
      replace(Replica.prototype, 'prepare', function (this: Replica, asked) {
        const ballot = asked as Ballot
        return this.exclusive(async () => {
          const { promised } = this.row
          if (compareBallots(ballot, promised) <= 0) return { granted: false, promised }
          // Its own it keeps, or it could not even propose.
          if (ballot.by === this.options.name) await this.change({ row: { promised: ballot } })
          return { granted: true, report: reportOf(this) }
        })
      }),
  },
]

const mostSeeds = 5000
const steps = 20

/** The seed that catches the mutation, and what it says; undefined: none does. */
export async function caught(name: string): Promise<Caught | undefined> {
  const mutation = mutations.find((one) => one.name === name)
  assert.ok(mutation, `there is no mutation '${name}'`)
  mutation.apply?.()
  const simulate = (seed: number) =>
    simulateReplicatedLog(seed, steps, mutation.shape ?? small, mutation.onCrash)
  return firstBroken(simulate, mutation.known, mostSeeds)
}

/** Private methods too: TypeScript's word for them means nothing here. */
function replace<T>(
  prototype: object,
  method: string,
  changed: (this: T, ...received: readonly unknown[]) => unknown,
): void {
  const methods = prototype as Record<string, unknown>
  const before = methods[method]
  assert.equal(typeof before, 'function', `there is no ${method} to be changed`)
  methods[method] = changed
}
