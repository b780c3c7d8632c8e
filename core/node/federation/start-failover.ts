import { createFailoverAdministration } from '../../../federation/failover/administration.ts'
import { FailoverAgent } from '../../../federation/failover/agent.ts'
import { guardAnswer, guardSubmit } from '../../../federation/failover/guarded-catalog.ts'
import { type RegionNodesParts, regionNodes } from '../../../federation/failover/region-nodes.ts'
import { serveVoters, tunnelVoters } from '../../../federation/failover/wire.ts'
import { checkCommand } from '../../catalog/entry-schema.ts'
import type { Catalog, Command } from '../../contract/catalog.ts'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { FailoverAdministration } from '../../contract/failover-admin.ts'
import type { Logger } from '../../contract/logger.ts'
import type { ReplicationReport } from '../../contract/replication-admin.ts'
import type { RegionTunnels } from '../../contract/tunnel.ts'
import type { GatewayFailover } from '../../gateway/s3/operation.ts'

export interface FailoverParts {
  readonly regionId: number
  readonly catalog: Catalog
  readonly tunnels: RegionTunnels
  /** Regions that this one is joined with, connected or not. */
  joined(): readonly number[]
  /** Where clients reach this region. */
  readonly endpoints: readonly string[]
  /** Absent: this process is the whole region. */
  readonly nodes?: Omit<RegionNodesParts, 'clock'>
  /** What replication knows of other regions' heads. */
  replication(): ReplicationReport
  readonly environment: Environment
  readonly log: Logger
}

export interface RunningFailover {
  readonly administration: FailoverAdministration
  /** What clients' writes go through. */
  readonly submit: Catalog['submit']
  /** What gateways tell clients of the groups. */
  readonly gateway: GatewayFailover
  close(): Promise<void>
}

/** This region's, or witness's, part in its failover groups. */
export function startFailover(parts: FailoverParts): RunningFailover {
  const { regionId, tunnels, environment, log } = parts
  const catalog = checked(parts.catalog)
  const peers = tunnelVoters(tunnels, environment.clock)
  const { clock } = environment
  const nodes = parts.nodes === undefined ? undefined : regionNodes({ ...parts.nodes, clock })
  const agent = new FailoverAgent({
    ...{ regionId, catalog, peers, environment, log, endpoints: parts.endpoints },
    ...(nodes === undefined ? {} : { colleagues: nodes }),
  })
  const administration = createFailoverAdministration({
    agent,
    isJoined: (region) => parts.joined().includes(region),
    seen(bucket) {
      const incoming = parts.replication().find((one) => one.bucket === bucket)
      const primary = incoming?.rule.primary
      return incoming?.incoming.find(({ region }) => region === primary)
    },
  })
  const shared = nodes?.serve(agent, administration)
  const answer = shared?.answer ?? ((from, question) => agent.answer(from, question))
  const stopServing = serveVoters(tunnels, answer, log)
  return {
    administration: shared?.administration ?? administration,
    gateway: {
      confirm: guardAnswer(parts.catalog, agent, environment.clock, regionId),
      primaryOf(bucketId) {
        const group = catalog.replication.rule(bucketId)?.group
        const record = group === undefined ? undefined : agent.known(group)?.record
        if (record === undefined) return undefined
        const { epoch, primary } = record
        return { epoch, primary, endpoints: agent.endpointsOf(primary) }
      },
      groups: () =>
        catalog.failover.groups().map(({ record }) => {
          const { name, epoch, primary, buckets, regions } = record
          return {
            ...{ name, epoch, primary, buckets },
            regions: regions.map((region) => ({ region, endpoints: agent.endpointsOf(region) })),
          }
        }),
    },
    submit: guardSubmit(parts.catalog, agent, environment.clock, regionId),
    async close() {
      stopServing()
      shared?.close()
      await agent.stop()
    },
  }
}

/** Records come from other regions: what they say is checked as what an operator says. */
function checked(
  catalog: Catalog,
): Pick<Catalog, 'barrier' | 'bucket' | 'failover' | 'replication' | 'submit'> {
  return {
    barrier: () => catalog.barrier(),
    bucket: (name) => catalog.bucket(name),
    failover: catalog.failover,
    replication: catalog.replication,
    async submit<C extends Command>(command: C) {
      checkCommand(command)
      return catalog.submit(command)
    },
  }
}

/** Of an edge. */
export const noFailover = (why: string): FailoverAdministration => {
  const refuse = async (): Promise<never> => {
    throw new StorageError('NOT_IMPLEMENTED', why)
  }
  return { report: async () => [], set: refuse, remove: refuse, plan: refuse, run: refuse, losses: refuse }
}
