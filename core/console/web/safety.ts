import type { ClusterReport, GroupStatus, NodeStatus, ReplicationReport } from '../../../sdk/admin/index.ts'
import { duration, plural } from './text.ts'

/** The answer to the first question of everybody who runs storage. */
export interface Safety {
  readonly tone: 'good' | 'warn' | 'bad'
  readonly title: string
  readonly reasons: readonly string[]
}

export function safetyOf(
  status: NodeStatus,
  cluster: ClusterReport | undefined,
  replication: ReplicationReport | undefined,
): Safety {
  const region = cluster?.enabled === true ? cluster : undefined
  const late = (replication ?? []).filter(({ isBreached }) => isBreached)
  const dead = (replication ?? []).flatMap(({ incoming, outgoing }) => [...incoming, ...outgoing])
  const given = dead.reduce((sum, each) => sum + each.dead, 0)
  const reasons = [
    ...(region?.findings ?? []),
    ...status.problems,
    ...late.map(({ bucket }) => `${bucket}: a region is further behind than its objective`),
    ...(given === 0
      ? []
      : [`${plural(given, 'change')} could not be applied in another region: an operator must look`]),
  ]
  if (region !== undefined && region.lost > 0) return { tone: 'bad', title: 'Some data is lost', reasons }
  const damaged = status.store.corruptChunks > 0 || !status.store.online
  if (damaged || region?.isSafe === false) {
    const title = damaged ? 'Some data needs attention' : 'Not all copies are in place'
    return { tone: damaged ? 'bad' : 'warn', title, reasons }
  }
  if (reasons.length > 0 || status.state !== 'ready') {
    return { tone: 'warn', title: 'Your data is safe; something needs a look', reasons }
  }
  const kept =
    region === undefined
      ? 'This region is one node: what is acknowledged survives a crash and a loss of power, but not the loss of this machine.'
      : `${region.replicas} copies on ${plural(region.nodes.length, 'node')}: every acknowledged write would survive the loss of one more node.`
  return { tone: 'good', title: 'Your data is safe', reasons: [kept] }
}

/** What would be lost if this region were lost now: the age of the oldest change that some region lacks. */
export function rpoOf(replication: ReplicationReport | undefined): {
  readonly value: string
  readonly note: string
} {
  const written = (replication ?? []).filter(({ isWritten, outgoing }) => isWritten && outgoing.length > 0)
  if (written.length === 0) return { value: '–', note: 'no bucket is replicated to another region' }
  const oldestMs = Math.max(
    0,
    ...written.map(({ outgoing }) => Math.min(...outgoing.map(({ oldestUnshippedMs }) => oldestUnshippedMs))),
  )
  return {
    value: oldestMs === 0 ? '0 s' : duration(oldestMs),
    note: `${plural(written.length, 'replicated bucket')}; what would be lost with this region now`,
  }
}

/** Work under way, in sentences. */
export function doingOf(
  status: NodeStatus,
  cluster: ClusterReport | undefined,
  replication: ReplicationReport | undefined,
  groups: readonly GroupStatus[] | undefined,
): readonly string[] {
  const doing: string[] = []
  const repair = cluster?.repair
  if (repair !== undefined && repair.movingNodes > 0) {
    doing.push(
      `Chunks move to new places: ${repair.movedNodes} of ${plural(repair.movingNodes, 'node')} have all of theirs`,
    )
  }
  if (repair !== undefined && repair.missing > 0)
    doing.push(`${plural(repair.missing, 'missing copy', 'missing copies')} being made again`)
  if (status.catalog.garbageWrites > 0)
    doing.push(
      `The space of ${plural(status.catalog.garbageWrites, 'deleted body', 'deleted bodies')} is about to be freed`,
    )
  for (const { bucket, isBackfilling, outgoing } of replication ?? []) {
    if (isBackfilling) doing.push(`${bucket}: what was there before is being replicated`)
    for (const { region, lagEntries } of outgoing) {
      if (lagEntries > 0)
        doing.push(`${bucket}: ${plural(lagEntries, 'change')} on the way to region ${region}`)
    }
  }
  for (const { record, isWritable, members } of groups ?? []) {
    if (members.some(({ isPrimary, isConnected }) => isPrimary && !isConnected) && !isWritable) {
      doing.push(`Failover group ${record.name}: the primary does not answer`)
    }
  }
  return doing
}
