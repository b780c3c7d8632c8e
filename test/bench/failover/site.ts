import { realpathSync } from 'node:fs'
import { type AdminClient, connectAdmin } from '../../../core/control/admin-client.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { openSocketDirectory } from '../../../core/node/socket-directory.ts'
import type { ClockShifts, ShiftedClock } from '../../kit/clock-shift/clock-shift.ts'
import { freePort } from '../../kit/free-ports.ts'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'
import { openS3Client, type S3Client } from '../../kit/s3-client.ts'
import type { TunnelPaths } from '../../kit/tunnel-paths.ts'

/** A region of one node, or a witness: a process with a wall clock of its own, which others dial through a relay. */
export interface Site extends AsyncDisposable {
  readonly region: number
  readonly node: NodeProcess
  readonly client: S3Client
  readonly clock: ShiftedClock
  /** One call of the admin service. */
  ask<T>(work: (admin: AdminClient) => Promise<T>): Promise<T>
}

export interface SiteOptions {
  readonly region: number
  readonly role: 'region' | 'witness'
  readonly paths: TunnelPaths
  readonly clocks: ClockShifts
}

export async function openSite({ region, role, paths, clocks }: SiteOptions): Promise<Site> {
  const port = await freePort()
  let pid = (): number => -1
  const relayPort = await paths.add(region, port, () => pid())
  const name = `region-${region}`
  const clock = clocks.clock(name)
  const node = await startNode({
    config: { regionId: region, role, region: name, tunnel: { endpoints: [`127.0.0.1:${relayPort}`] } },
    env: { PANDO_TUNNEL_LISTEN: `127.0.0.1:${port}`, ...clock.environment },
    startTimeoutMs: 120_000,
  })
  pid = () => node.pid
  const { endpoint, accessKey, secretKey } = node
  const client =
    role === 'witness'
      ? noClient
      : openS3Client({ endpoint, accessKey, secretKey, region: name, connections: 64 })
  const path = openSocketDirectory(realpathSync(node.dataDirectory)).address('admin.sock')
  return {
    ...{ region, node, client, clock },
    async ask(work) {
      using admin = connectAdmin({
        ...{ target: { kind: 'socket', path }, environment: realEnvironment, timeoutMs: 20_000 },
      })
      return await work(admin)
    },
    async [Symbol.asyncDispose]() {
      client.close()
      // A stopped process does not even hear that it is killed politely.
      await node[Symbol.asyncDispose]()
    },
  }
}

const noClient: S3Client = {
  send: () => Promise.reject(new Error('a witness has no S3 endpoint')),
  stream: () => Promise.reject(new Error('a witness has no S3 endpoint')),
  close: () => undefined,
}
