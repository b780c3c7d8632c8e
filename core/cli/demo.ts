import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { PandoClient } from '../../sdk/index.ts'
import { StorageError } from '../contract/errors.ts'
import type { AdminClient } from '../control/admin-client.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import type { Terminal } from './terminal.ts'

/** Objects of the first load, and their size. */
const loadObjects = 500
const objectBytes = 16 * 1024
const writersAtOnce = 8
const startMs = 60_000
const waitMs = 90_000
/** A request that is not answered by then is given up: its region is gone. */
const answerMs = 2_000
const secretBytes = 20

interface Site {
  readonly region: number
  readonly data: string
  readonly start: () => Promise<void>
  readonly kill: () => Promise<void>
  client: PandoClient | undefined
}

const sleep = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs))
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

/**
 * Two regions and a witness on this machine, each a process with a directory of its own: loads data, kills the primary, lets the other
 * region take over, brings the first one back. Every number that it prints is measured in this run. Leaves nothing behind.
 */
export async function demoFederation(terminal: Terminal, _: GlobalOptions): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-demo-'))
  const sites: Site[] = []
  const stop = (): void => {
    for (const site of sites) void site.kill()
  }
  process.once('SIGINT', stop)
  try {
    const secret = randomBytes(secretBytes).toString('hex')
    for (const region of [1, 2, 9]) sites.push(await newSite(directory, region, secret))
    await Promise.all(sites.map((site) => site.start()))
    await run(terminal, sites)
    return exitCodes.ok[0]
  } finally {
    process.off('SIGINT', stop)
    await Promise.all(sites.map((site) => site.kill()))
    await rm(directory, { recursive: true, force: true })
  }
}

async function run(terminal: Terminal, sites: readonly Site[]): Promise<void> {
  const [one, two, witness] = sites
  if (one === undefined || two === undefined || witness === undefined) throw new Error('three sites')
  const say = (text: string): void => terminal.out(`${text}\n`)
  const onSite = async <T>(site: Site, work: (admin: AdminClient) => Promise<T>): Promise<T> => {
    using admin = await connect({ ...terminal, environment: {} }, { data: site.data })
    return await work(admin)
  }
  const join = async (from: Site, to: Site): Promise<void> => {
    const { token } = await onSite(from, (admin) => admin.federation.invite({ validMs: 600_000 }))
    await onSite(to, (admin) => admin.federation.join(token))
  }
  await join(one, two)
  await join(one, witness)
  await join(two, witness)
  say('regions 1 and 2 and a witness (9) run, each trusts the others')

  await one.client?.createBucket('photos')
  const rule = { bucket: 'photos', mode: 'single', regions: [2], prefix: '', rpoMs: 0 } as const
  await onSite(one, (admin) => admin.replication.replicate(rule))
  await onSite(one, async (admin) => {
    await until('the witness is connected', async () => {
      const { peers } = await admin.federation.status()
      return peers.length === 2 && peers.every(({ isConnected }) => isConnected)
    })
    await admin.failover.set({
      ...{ group: 'main', buckets: ['photos'], syncBuckets: [], witnesses: [9] },
      ...{ automatic: true, flapMs: 1_000, leaseMs: 0 },
    })
  })
  const began = performance.now()
  const body = randomBytes(objectBytes)
  let next = 0
  const writer = async (): Promise<void> => {
    while (next < loadObjects) await one.client?.put('photos', `before/${next++}`, body)
  }
  await Promise.all(Array.from({ length: writersAtOnce }, writer))
  say(`bucket photos: ${loadObjects} objects of 16 KiB in region 1, ${seconds(performance.now() - began)}`)
  const follows = (leader: Site, other: number) => (): Promise<boolean> =>
    onSite(leader, async (admin) => {
      const [group] = await admin.failover.report()
      const member = group?.members.find(({ region }) => region === other)
      return group?.isWritable === true && member?.blockers.length === 0 && member.lagEntries < 100
    })
  await until('region 2 follows', follows(one, 2))
  const lag = await onSite(one, async (admin) => (await admin.failover.report())[0]?.members[1])
  say(
    `region 2 can take over; it is ${lag?.lagEntries ?? 0} entries behind, the oldest ${lag?.lagMs ?? 0} ms old\n`,
  )

  const load = new Load([one, two])
  await sleep(2_000)
  const killedMs = performance.now()
  await one.kill()
  say('killed region 1 (kill -9) while it was written to')
  await until('region 2 takes over', async () => load.firstOf(2) !== undefined)
  const rtoMs = (load.firstOf(2)?.atMs ?? 0) - killedMs
  say(`region 2 took over by itself; first write acknowledged there after ${seconds(rtoMs)} (RTO)`)
  const acknowledged = load.writes.filter(({ by }) => by === 1)
  const inTwo = await keysOf(two)
  const lost = acknowledged.filter(({ key }) => !inTwo.has(key))
  const lostMs = Math.max(0, ...lost.map(({ atMs }) => killedMs - atMs))
  say(
    `of ${acknowledged.length} writes that region 1 had acknowledged under load, ${lost.length} had not arrived: ` +
      `the last ${Math.round(lostMs)} ms (RPO)\n`,
  )

  await one.start()
  await until('region 1 is back', follows(two, 1))
  const listed = await onSite(one, (admin) => admin.failover.losses('main', 10_000))
  const keys = new Set(listed.map(({ key }) => key))
  const unlisted = lost.filter(({ key }) => !keys.has(key))
  say(
    `region 1 is back as a copy: it lists ${listed.length} changes that it had not handed over, ` +
      `${unlisted.length === 0 ? 'the lost ones among them' : `${unlisted.length} ARE MISSING`}; they are in photos.lost`,
  )
  const back = await onSite(one, (admin) =>
    admin.failover.run({ group: 'main', to: 1, acceptLoss: -1, isPrimaryDown: false }),
  )
  say(`failed back to region 1 as planned: ${seconds(back.durationMs)}, nothing lost`)
  await until('region 2 follows again', follows(one, 2))
  await load.stop()
  const inOne = await keysOf(one)
  const missing = load.writes.filter(({ key }) => !inOne.has(key) && !keys.has(key))
  say(
    `${load.writes.length} writes were acknowledged in all; ${missing.length} are neither in the bucket nor on the list`,
  )
  if (missing.length > 0 || unlisted.length > 0) {
    throw new StorageError('INTERNAL', 'the demonstration has found writes that nobody accounts for')
  }
}

/** One writer, which goes to the other region when it is refused. */
class Load {
  readonly writes: { readonly key: string; readonly by: number; readonly atMs: number }[] = []
  readonly #running: Promise<void>
  #isOver = false

  constructor(sites: readonly Site[]) {
    this.#running = this.#run(sites)
  }

  firstOf(region: number): { readonly atMs: number } | undefined {
    return this.writes.find(({ by }) => by === region)
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#running
  }

  async #run(sites: readonly Site[]): Promise<void> {
    const body = randomBytes(1024)
    for (let number = 0, at = 0; !this.#isOver; number++) {
      const site = sites[at % sites.length]
      const key = `load/${number}`
      try {
        await site?.client?.put('photos', key, body, { deadlineMs: answerMs })
        this.writes.push({ key, by: site?.region ?? 0, atMs: performance.now() })
      } catch {
        at++
        await sleep(50)
      }
    }
  }
}

async function keysOf({ client }: Site): Promise<ReadonlySet<string>> {
  const keys = new Set<string>()
  if (client === undefined) return keys
  for await (const entry of client.list('photos')) if (entry.type === 'object') keys.add(entry.key)
  return keys
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const untilMs = performance.now() + waitMs
  while (!(await isSo().catch(() => false))) {
    if (performance.now() > untilMs) throw new StorageError('DEADLINE_EXCEEDED', `${what}: not within 90 s`)
    await sleep(100)
  }
}

async function newSite(directory: string, region: number, secret: string): Promise<Site> {
  const name = `region-${region}`
  const data = join(directory, name)
  const config = join(directory, `${name}.json`)
  const role = region === 9 ? 'witness' : 'region'
  await writeFile(config, JSON.stringify({ regionId: region, region: name, role, log: { level: 'error' } }))
  const accessKeyId = 'PANDODEMO0000000001'
  // The others dial it there again after a restart.
  const tunnel = `127.0.0.1:${await freePort()}`
  let child: ChildProcess | undefined
  const site: Site = {
    ...{ region, data, client: undefined },
    async start() {
      const main = fileURLToPath(new URL('./main.js', import.meta.url))
      const any = '127.0.0.1:0'
      const spawned = spawn(process.execPath, [main, 'up', '--json', '--config', config], {
        env: {
          ...{ PATH: process.env['PATH'], PANDO_DATA: data, PANDO_TUNNEL_LISTEN: tunnel },
          ...{
            PANDO_S3_LISTEN: any,
            PANDO_ADMIN_LISTEN: any,
            PANDO_CONSOLE_LISTEN: any,
            PANDO_RPC_LISTEN: any,
          },
          ...{ PANDO_ROOT_ACCESS_KEY: accessKeyId, PANDO_ROOT_SECRET_KEY: secret },
        },
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      child = spawned
      const endpoint = await new Promise<string>((resolve, reject) => {
        const late = setTimeout(() => reject(new Error(`${name} did not start`)), startMs)
        spawned.once('exit', () => reject(new Error(`${name} ended`)))
        createInterface({ input: spawned.stdout }).on('line', (line) => {
          clearTimeout(late)
          resolve((JSON.parse(line) as { s3: string }).s3)
        })
      })
      if (endpoint === '') return
      site.client = new PandoClient({
        ...{ endpoints: [endpoint], region: name, maxAttempts: 1 },
        credentials: { accessKeyId, secretAccessKey: secret },
      })
    },
    async kill() {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    },
  }
  return site
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
