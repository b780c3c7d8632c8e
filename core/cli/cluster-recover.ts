import { StorageError } from '../contract/errors.ts'
import { silentLogger } from '../contract/logger.ts'
import type { NodeFound, RecoveryPlan } from '../node/cluster/recover-region.ts'
import { formatSize } from '../node/config/quantities.ts'
import { realEnvironment } from '../node/environment.ts'
import { exitCodes } from './exit-codes.ts'
import { type GlobalOptions, readConfig } from './read-config.ts'
import { formatTime, type Terminal, table } from './terminal.ts'

export interface RecoverOptions extends GlobalOptions {
  /** Name of the region: that the plan was read. */
  readonly yes?: string
}

/** Tells what would be kept and lost if the region went on from this node alone; does it when the region's name is given. */
export async function recoverCluster(terminal: Terminal, options: RecoverOptions): Promise<number> {
  const config = await readConfig(terminal, options)
  if (options.yes !== undefined && options.yes !== config.region) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      `--yes wants the name of this region, '${config.region}', and not '${options.yes}'`,
    )
  }
  const execute = options.yes !== undefined
  if (options.json !== true) terminal.out('listening for the other nodes ...\n')
  const { recoverRegion } = await import('../node/cluster/recover-region.ts')
  const plan = await recoverRegion({ config, execute, environment: realEnvironment, log: silentLogger })
  const isDone = execute && plan.refusal === ''
  if (options.json === true) terminal.out(`${JSON.stringify({ ...plan, recovered: isDone })}\n`)
  else terminal.out(describe(plan, isDone))
  return exitCodes[plan.refusal === '' ? 'ok' : 'findings'][0]
}

const states: Readonly<Record<NodeFound['state'], string>> = {
  this: 'this node',
  alive: 'runs',
  older: 'runs without what it had',
  other: 'runs with another log',
  silent: 'not heard',
}

function describe(plan: RecoveryPlan, isDone: boolean): string {
  const { region, node, nodes, position, confirmed, lastTimeMs, counts, removed, groups, sharedBuckets } =
    plan
  const rows = nodes.map((one) => [
    one.name,
    one.voter ? 'yes' : 'no',
    states[one.state],
    one.generation === undefined ? '' : String(one.generation),
    one.position === undefined ? '' : String(one.position),
  ])
  const columns = [
    { title: 'node' },
    { title: 'voter' },
    { title: 'state' },
    { title: 'generation', align: 'right' },
    { title: 'position', align: 'right' },
  ] as const
  const found = `\n${table([...columns], rows)}\n`
  if (plan.refusal !== '') return `${found}Refused: ${plan.refusal}.\n`
  const out = removed.length === 0 ? 'nobody' : removed.join(', ')
  const kept =
    `Kept:    everything up to position ${position} (${formatTime(lastTimeMs)}): ${counts.buckets} buckets, ${counts.versions} versions, ` +
    `${formatSize(counts.liveBytes)}.\n` +
    `         ${position - confirmed} of these changes are not known to be confirmed: they become so.\n` +
    `Lost:    changes that were acknowledged without ${node}, after that; and bodies of which no copy is at a node that is left.\n` +
    `Removed: ${out}. Were one of them to come back with its old data while a majority of them is there, it could go on by itself:\n` +
    '         make sure that they cannot. One that reaches a recovered node is told to stop.\n'
  const shared =
    sharedBuckets === 0
      ? ''
      : `Shared:  of ${sharedBuckets} buckets other regions take over what is written here. They synchronize in full; where one region\n` +
        '         writes, a copy that still has what is lost here removes it then: save it before this region starts. Where several write,\n' +
        '         deletes that are lost here and forgotten elsewhere are undone: to rule that out take this region out of the rule first.\n'
  const voting =
    groups.length === 0
      ? ''
      : `Groups:  ${groups.join(', ')}: the region may have forgotten votes, so it votes, grants and leads no more in them. Another region\n` +
        "         takes over what it led: by itself where that is automatic, else by 'pando failover run' there, before this region starts.\n" +
        "         When all are there, 'pando failover remove' and 'set' at the primary make a group anew, with this region as a voter.\n"
  const others = nodes.filter(({ state }) => state === 'alive').map(({ name }) => name)
  const rejoin =
    others.length === 0
      ? ''
      : `Then stop ${others.join(', ')}, move the directory catalog of their data away and start them: they join with the chunks that they have.\n`
  if (!isDone) {
    return `${found}${kept}${shared}${voting}\nNothing has been changed. To go on from ${node} alone: the same command with --yes ${region}\n`
  }
  return (
    `${found}${kept}${shared}${voting}\nRegion ${region} goes on from ${node}. Start it ('pando up'). ${rejoin}` +
    "Lost nodes join again with empty disks, under their names or others ('pando cluster add-node').\n" +
    "Other regions may have seen changes that are lost here: 'pando replication compare' finds what differs.\n"
  )
}
