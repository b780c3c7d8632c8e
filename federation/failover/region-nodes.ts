import { z } from 'zod'
import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { failoverLimits } from '../../core/contract/failover.ts'
import type {
  FailoverAdministration,
  FailoverPlan,
  FailoverResult,
  GroupStatus,
  RunFailoverRequest,
  SetGroupRequest,
} from '../../core/contract/failover-admin.ts'
import type { RegionPeers } from '../../core/contract/region-peers.ts'
import type { FailoverAgent } from './agent.ts'
import type { Answer, Colleagues, Question, RegionLeases } from './peer.ts'
import { answerSchema, count, endpoints, name, parse, questionSchema, region, textOf } from './wire.ts'

/** How the nodes of this region reach each other. */
export interface RegionNodesParts {
  readonly self: string
  readonly peers: Pick<RegionPeers, 'request' | 'serve'>
  /** Voters that have a connection to this node, and itself, in the order of the region's map: the first one that can acts. */
  voters(): readonly string[]
  readonly clock: Clock
}

export interface RegionNodes extends Colleagues {
  serve(agent: FailoverAgent, administration: FailoverAdministration): SharedFailover
}

/** What one node does for the others, and has done by the acting one. */
export interface SharedFailover {
  readonly administration: FailoverAdministration
  /** What another region asks of whichever node it has a tunnel to. */
  answer(from: number, question: Question): Promise<Answer>
  close(): void
}

export const regionNodesTopic = 'failover'
const leasesMs = 1_000
/** Who has answered within this is left to act. */
const heardMs = 2_500
/** A change of the primary waits for the lease of the one before, and for regions that catch up. */
const longMs = 60_000

const leasesSchema = z.object({
  leases: z
    .array(z.object({ group: name, epoch: count, leftMs: z.number().min(0).max(1e9) }))
    .max(failoverLimits.groups),
  endpoints: z.array(z.object({ region, endpoints })).max(1024),
})
/** Requests of operators were checked where they came in, by the same software. */
const requestSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('leases') }),
  z.object({ kind: z.literal('answer'), from: region, question: questionSchema }),
  z.object({ kind: z.literal('report') }),
  z.object({ kind: z.literal('set'), request: z.custom<SetGroupRequest>(isObject) }),
  z.object({ kind: z.literal('remove'), group: name }),
  z.object({ kind: z.literal('plan'), group: name, to: region }),
  z.object({ kind: z.literal('run'), request: z.custom<RunFailoverRequest>(isObject) }),
])
type Request = z.output<typeof requestSchema>

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}

/**
 * Failover in a region of several nodes. Votes and grants are entries of its log, so any node answers those questions of other regions.
 * What takes several steps (a change of the primary, what an operator asks) is done by the acting node, which has the tunnels.
 */
export function regionNodes({ self, peers, voters, clock }: RegionNodesParts): RegionNodes {
  const heard = new Map<string, number>()
  // A node that starts leaves the others the time in which it would have heard of them.
  const beganMs = clock.monotonic()
  const isHeard = (name: string): boolean => clock.monotonic() - (heard.get(name) ?? beganMs) < heardMs
  /** Voters that act rather than this node. */
  const ahead = (): readonly string[] => {
    const names = voters()
    const own = names.indexOf(self)
    return own < 0 ? names : names.slice(0, own)
  }
  // A node that has a connection may still be starting, and do nothing for the region for a while: only who answers keeps others back.
  const isActing = (): boolean => voters().includes(self) && !ahead().some(isHeard)

  async function ask(request: Request, deadlineMs: number): Promise<Uint8Array> {
    const to = ahead().find(isHeard)
    if (to === undefined) {
      throw new StorageError('UNAVAILABLE', 'no node of this region asks other regions at the moment')
    }
    return peers.request(to, regionNodesTopic, textOf(request), { deadlineMs })
  }

  async function held(): Promise<RegionLeases> {
    for (const name of ahead()) {
      const options = { deadlineMs: leasesMs }
      const message = textOf({ kind: 'leases' })
      const told = await peers.request(name, regionNodesTopic, message, options).catch(() => undefined)
      if (told === undefined) continue
      heard.set(name, clock.monotonic())
      return parse(leasesSchema, told)
    }
    return { leases: [], endpoints: [] }
  }
  const result = async <T>(request: Request): Promise<T> =>
    JSON.parse(Buffer.from(await ask(request, longMs)).toString('utf8')) as T

  /** Where there is no group nobody has asked. */
  async function acts(): Promise<boolean> {
    if (!ahead().some(isHeard)) await held()
    return isActing()
  }

  return {
    isActing,
    held,

    serve(agent, administration) {
      async function perform(request: Request): Promise<unknown> {
        if (request.kind === 'leases') return agent.held()
        // Two nodes differ for a moment about who acts: only one may, for it puts right what another one has left half done.
        if (!isActing()) throw new StorageError('UNAVAILABLE', `${self} is not the coordinator of its region`)
        switch (request.kind) {
          case 'answer':
            return agent.answer(request.from, request.question)
          case 'report':
            return administration.report()
          case 'set':
            return administration.set(request.request)
          case 'remove':
            await administration.remove(request.group)
            return {}
          case 'plan':
            return administration.plan(request.group, request.to)
          case 'run':
            return administration.run(request.request)
        }
      }
      const close = peers.serve(regionNodesTopic, {
        request: async (_, message) => textOf((await perform(parse(requestSchema, message))) as object),
      })
      return {
        close,
        async answer(from, question) {
          const isLong = question.kind === 'hand-over' || question.kind === 'take'
          if (!isLong || (await acts())) return agent.answer(from, question)
          return parse(answerSchema, await ask({ kind: 'answer', from, question }, longMs))
        },
        administration: {
          report: async () =>
            (await acts()) ? administration.report() : result<readonly GroupStatus[]>({ kind: 'report' }),
          set: async (request) =>
            (await acts()) ? administration.set(request) : result<GroupStatus>({ kind: 'set', request }),
          remove: async (group) =>
            (await acts()) ? administration.remove(group) : result<undefined>({ kind: 'remove', group }),
          plan: async (group, to) =>
            (await acts())
              ? administration.plan(group, to)
              : result<FailoverPlan>({ kind: 'plan', group, to }),
          run: async (request) =>
            (await acts()) ? administration.run(request) : result<FailoverResult>({ kind: 'run', request }),
          losses: (group, limit) => administration.losses(group, limit),
        },
      }
    },
  }
}
