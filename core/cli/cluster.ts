import type { ClusterNodeReport, ClusterReport } from '../contract/cluster-report.ts'
import { StorageError } from '../contract/errors.ts'
import type { AdminClient } from '../control/admin-client.ts'
import { formatDuration, formatSize } from '../node/config/quantities.ts'
import type { ChangeOptions } from './cluster-options.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { facts, formatTime, ProgressLine, type Terminal, table } from './terminal.ts'

const watchIntervalMs = 1000

/** Exit code 7 while the loss of one more node could lose something, so that a script can wait for it. */
export async function showCluster(
  terminal: Terminal,
  options: GlobalOptions & { readonly watch?: boolean },
): Promise<number> {
  using admin = await connect(terminal, options)
  for (;;) {
    const report = await admin.cluster.report()
    if (options.json === true) terminal.out(`${JSON.stringify(report)}\n`)
    else {
      if (options.watch === true && terminal.isInteractive) terminal.out('\x1b[H\x1b[2J')
      terminal.out(describeCluster(report))
    }
    if (options.watch !== true) return exitCodes[report.isSafe || !report.enabled ? 'ok' : 'findings'][0]
    await new Promise((resolve) => setTimeout(resolve, watchIntervalMs))
  }
}

export async function listNodes(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const report = await admin.cluster.report()
  terminal.out(options.json === true ? `${JSON.stringify(report.nodes)}\n` : nodeTable(report.nodes))
  return exitCodes.ok[0]
}

/** Who does what only one node of the region does. */
export async function showLocks(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const locks = await admin.cluster.locks()
  if (options.json === true) terminal.out(`${JSON.stringify(locks)}\n`)
  else if (locks.length === 0) terminal.out('no lock is held\n')
  else {
    terminal.out(
      table(
        [
          { title: 'lock' },
          { title: 'owner' },
          { title: 'token', align: 'right' },
          { title: 'held since' },
          { title: 'renewed' },
        ],
        locks.map(({ name, owner, token, givenMs, renewedMs }) => [
          name,
          owner,
          String(token),
          formatTime(givenMs),
          formatTime(renewedMs),
        ]),
      ),
    )
  }
  return exitCodes.ok[0]
}

export async function setCluster(
  terminal: Terminal,
  options: GlobalOptions & { readonly replicas: string },
): Promise<number> {
  using admin = await connect(terminal, options)
  const report = await admin.cluster.setReplicas(numberOf(options.replicas, '--replicas'))
  return told(terminal, options, report, `${report.replicas} copies of each chunk from now on`)
}

export async function drainNode(terminal: Terminal, options: ChangeOptions, name: string): Promise<number> {
  using admin = await connect(terminal, options)
  const report = await admin.cluster.changeNode({ name, state: 'draining' })
  if (options.wait !== true) {
    return told(
      terminal,
      options,
      report,
      `${name} is draining; see how far it is with 'pando cluster status'`,
    )
  }
  await settled(terminal, admin)
  return told(terminal, options, report, `${name} is drained: 'pando node remove ${name}' takes it out`)
}

export async function activateNode(
  terminal: Terminal,
  options: ChangeOptions,
  name: string,
): Promise<number> {
  using admin = await connect(terminal, options)
  const report = await admin.cluster.changeNode({ name, state: 'active' })
  if (options.wait === true) await settled(terminal, admin)
  return told(terminal, options, report, `${name} takes chunks again`)
}

export async function setNode(terminal: Terminal, options: ChangeOptions, name: string): Promise<number> {
  const { weight, zone, rack } = options
  if (weight === undefined && zone === undefined && rack === undefined) {
    throw new StorageError('INVALID_ARGUMENT', 'say what to change: --weight, --zone or --rack')
  }
  using admin = await connect(terminal, options)
  const report = await admin.cluster.changeNode({
    name,
    ...(weight === undefined ? {} : { weight: numberOf(weight, '--weight') }),
    ...(zone === undefined ? {} : { zone }),
    ...(rack === undefined ? {} : { rack }),
  })
  return told(terminal, options, report, `${name} is changed; chunks move to where they belong now`)
}

export async function removeNode(terminal: Terminal, options: ChangeOptions, name: string): Promise<number> {
  using admin = await connect(terminal, options)
  const report = await admin.cluster.removeNode(name, options.force === true)
  return told(terminal, options, report, `${name} is no part of the region any more`)
}

function told(terminal: Terminal, options: GlobalOptions, report: ClusterReport, text: string): number {
  terminal.out(options.json === true ? `${JSON.stringify(report)}\n` : `${text} (map ${report.epoch})\n`)
  return exitCodes.ok[0]
}

/** Until no chunk has to move any more. */
async function settled(terminal: Terminal, admin: AdminClient): Promise<void> {
  const progress = new ProgressLine(terminal)
  try {
    for (;;) {
      const { repair } = await admin.cluster.report()
      if (repair.movingNodes === 0) return
      progress.update('moving chunks, nodes complete', repair.movedNodes, repair.movingNodes)
      await new Promise((resolve) => setTimeout(resolve, watchIntervalMs))
    }
  } finally {
    progress.clear()
  }
}

/** For a person. */
export function describeCluster(report: ClusterReport): string {
  const { enabled, node, epoch, replicas, acks, isSafe, lost, findings, log, nodes, repair } = report
  if (!enabled) {
    return `${node} is a region of its own: no cluster. What it stores is as safe as its disk.\n`
  }
  const walk = repair.isWalking
    ? `looking through all chunks, ${repair.checked}${repair.total > 0 ? ` of ${repair.total}` : ''}`
    : repair.isKnown
      ? 'all chunks looked through'
      : 'about to look through all chunks'
  const moving =
    repair.movingNodes === 0
      ? ''
      : `; chunks are moving, ${repair.movedNodes} of ${repair.movingNodes} nodes complete`
  return (
    facts([
      ['Data', safetyOf(isSafe, lost)],
      ...findings.map((finding) => ['Finding', finding] as const),
      ['Region', `${nodes.length} nodes, map ${epoch}, ${replicas} copies, acknowledged at ${acks}`],
      [
        'Catalog',
        `${log.isWritable ? 'takes writes' : 'takes no writes'}, entry ${log.confirmed} of ${log.position} confirmed, generation ${log.generation}`,
      ],
      ['Order', log.servers],
      [
        'Repair',
        `${walk}; ${repair.missing} missing here, ${repair.repairedChunks} repaired (${formatSize(repair.repairedBytes)})${moving}${repair.lost > 0 ? `; ${repair.lost} lost here` : ''}`,
      ],
      ['Seen from', node],
    ]) +
    '\n' +
    nodeTable(nodes)
  )
}

function safetyOf(isSafe: boolean, lost: number): string {
  if (isSafe) return 'safe: one more node may be lost'
  return lost > 0 ? 'NOT safe: some of it is lost' : 'NOT safe against the loss of one more node'
}

function nodeTable(nodes: readonly ClusterNodeReport[]): string {
  return table(
    [
      { title: 'node' },
      { title: 'state' },
      { title: 'health' },
      { title: 'role' },
      { title: 'zone' },
      { title: 'rack' },
      { title: 'weight', align: 'right' },
      { title: 'entry', align: 'right' },
      { title: 'link' },
      { title: 'chunks' },
    ],
    nodes.map((node) => [
      node.name,
      node.state,
      node.health === 'alive' || node.silentForMs === 0
        ? node.health
        : `${node.health}, silent for ${formatDuration(node.silentForMs)}`,
      [node.voter ? 'voter' : 'learner', ...(node.coordinator ? ['coordinator'] : [])].join(', '),
      node.zone === '' ? '-' : node.zone,
      node.rack === '' ? '-' : node.rack,
      String(node.weight),
      String(node.position),
      node.transport === '' ? '-' : node.transport,
      node.complete ? 'complete' : 'moving',
    ]),
  )
}

function numberOf(text: string, option: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) {
    throw new StorageError('INVALID_ARGUMENT', `${option}: '${text}' is not a number`)
  }
  return value
}
