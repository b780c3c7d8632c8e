import { realpathSync } from 'node:fs'
import type { TestContext } from 'node:test'
import { type AdminClient, connectAdmin } from '../../core/control/admin-client.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { openSocketDirectory } from '../../core/node/socket-directory.ts'
import { freePort } from './free-ports.ts'
import { type NodeProcess, startNode } from './node-process.ts'

/** Two regions and a witness, real processes, with buckets that are in one failover group. */
export interface FailoverTrio {
  readonly one: TrioMember
  readonly two: TrioMember
  readonly witness: TrioMember
}

export interface TrioMember {
  readonly region: number
  readonly node: NodeProcess
  ask<T>(work: (admin: AdminClient) => Promise<T>): Promise<T>
}

export interface TrioOptions {
  readonly buckets: readonly string[]
  readonly leaseMs: number
}

const group = 'main'
const patienceMs = 90_000

export async function openFailoverTrio(t: TestContext, options: TrioOptions): Promise<FailoverTrio> {
  const [one, two, witness] = await Promise.all([
    open(t, 1, 'region'),
    open(t, 2, 'region'),
    open(t, 9, 'witness'),
  ])
  for (const [inviting, joining] of [
    [one, two],
    [one, witness],
    [two, witness],
  ] as const) {
    const { token } = await inviting.ask(({ federation }) => federation.invite({ validMs: 600_000 }))
    await joining.ask(({ federation }) => federation.join(token))
  }
  for (const bucket of options.buckets) {
    await one.ask((admin) => admin.createBucket(bucket, ''))
    await one.ask(({ replication }) =>
      replication.replicate({ bucket, mode: 'single', regions: [2], prefix: '', rpoMs: 0 }),
    )
  }
  await until('everybody is connected', async () => {
    const { peers } = await one.ask(({ federation }) => federation.status())
    return peers.length === 2 && peers.every(({ isConnected }) => isConnected)
  })
  await one.ask(({ failover }) =>
    failover.set({
      ...{ group, buckets: options.buckets, syncBuckets: [], witnesses: [9], automatic: true },
      ...{ flapMs: 100, leaseMs: options.leaseMs },
    }),
  )
  await untilWhole(one, two)
  return { one, two, witness }
}

/** The primary acknowledges, and the other region can take its place. */
export async function untilWhole(primary: TrioMember, other: TrioMember): Promise<void> {
  await until(`region ${other.region} can take over from region ${primary.region}`, async () => {
    const [status] = await primary.ask(({ failover }) => failover.report())
    const member = status?.members.find(({ region }) => region === other.region)
    return (
      status?.record.primary === primary.region &&
      status.isWritable &&
      member?.isConnected === true &&
      member.blockers.length === 0
    )
  })
}

export async function until(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  const untilMs = performance.now() + patienceMs
  while (!(await Promise.resolve(isSo()).catch(() => false))) {
    if (performance.now() > untilMs) throw new Error(`not within ${patienceMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function open(t: TestContext, region: number, role: 'region' | 'witness'): Promise<TrioMember> {
  const [tunnel, s3] = [await freePort(), await freePort()]
  const node = await startNode({
    config: {
      ...{ regionId: region, role, region: `region-${region}` },
      ...(role === 'region' ? { s3: { endpoints: [`http://127.0.0.1:${s3}`] } } : {}),
    },
    env: { PANDO_TUNNEL_LISTEN: `127.0.0.1:${tunnel}`, PANDO_S3_LISTEN: `127.0.0.1:${s3}` },
  })
  t.after(() => node[Symbol.asyncDispose]())
  const path = openSocketDirectory(realpathSync(node.dataDirectory)).address('admin.sock')
  return {
    ...{ region, node },
    async ask(work) {
      using admin = connectAdmin({
        ...{ target: { kind: 'socket', path }, environment: realEnvironment, timeoutMs: 20_000 },
      })
      return await work(admin)
    },
  }
}
