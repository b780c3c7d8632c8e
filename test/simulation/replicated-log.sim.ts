import assert from 'node:assert/strict'
import { latestVoters, voterId, voterName } from '../../core/catalog/replicated/generation.ts'
import { type ReplicatedLog, startReplicatedLog } from '../../core/catalog/replicated/replicated-log.ts'
import { openPlacedStreams } from '../../core/cluster/nats/placed-streams.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import { FakeClock, fakeEnvironment } from '../kit/fake-clock.ts'
import {
  checkLinearizable,
  type KeyInput,
  type KeyOutput,
  type Operation,
  objectKeyModel,
} from '../kit/linearizability.ts'
import { type MemoryOrderStreams, MemoryStreamServers } from '../kit/memory-order-streams.ts'
import { MemoryRegion, type MemoryRegionPeers } from '../kit/memory-region-peers.ts'
import { lieSomewhere } from './lying-servers.ts'
import { decodeAnswer, encodeCommand, forgetCopies, ReplicaDisk, SimulatedStore } from './replica-disk.ts'
import { describeNodes, emptyReport, type ReplicatedLogReport } from './replicated-log-report.ts'
import { type LogShape, large, ruleKey } from './replicated-log-shapes.ts'
import { SeededRandom } from './seeded-random.ts'

interface Node {
  readonly name: string
  disk: ReplicaDisk
  store: SimulatedStore
  log: ReplicatedLog
  /** One connection to each server. */
  streams: readonly MemoryOrderStreams[]
  peers: MemoryRegionPeers
  isUp: boolean
  /** Up to where what it shows has been compared with what all others show. */
  compared: number
}

const keys = ['x', ruleKey]

/**
 * The replicated log of a region on virtual time, from one seed: the real protocol on disks, streams and a network that do what they
 * do at their worst. A safety phase with faults, then a healed one that must make progress. It throws when a promise is broken.
 */
class World {
  readonly random: SeededRandom
  readonly clock = new FakeClock(1000, 24)
  /** Each orders for itself; a stream is on one of them. */
  readonly servers: readonly MemoryStreamServers[]
  readonly network: MemoryRegion
  readonly nodes = new Map<string, Node>()
  readonly history: Operation<KeyInput, KeyOutput>[] = []
  readonly report = emptyReport()
  private readonly acknowledged = new Map<string, string>()
  /** What was shown at each position, by whomever first. */
  private readonly truth: string[] = []
  private readonly bootstrap: readonly string[]
  private readonly retainEntries: number
  private readonly slowness: number
  private operations = 0
  private busy = 0
  private faulty = true
  /** The network does what it should for a while. */
  private isCalm = false
  private readonly images = new Map<string, ReplicaDisk>()
  private readonly mayLie: boolean
  private readonly shape: LogShape
  private readonly onCrash: ((disk: ReplicaDisk) => void) | undefined
  private failure: unknown
  /** Servers that nobody reaches. */
  private readonly dead = new Set<number>()

  constructor(seed: number, shape: LogShape, onCrash?: (disk: ReplicaDisk) => void) {
    this.shape = shape
    this.onCrash = onCrash
    this.random = new SeededRandom(seed)
    const { random } = this
    const count = random.pick(shape.nodes)
    this.bootstrap = ['a', 'b', 'c', 'd', 'e'].slice(0, count)
    this.retainEntries = random.pick(shape.retainEntries)
    this.slowness = random.pick(shape.slowness)
    // Different entries to different voters and the disk of one of them: nobody could tell which were acknowledged.
    this.mayLie = random.chance(0.8) && !shape.restores
    const delayMs = (): number => {
      const wait = 0.2 + this.random.next() * this.slowness
      // Late, but not later than whoever comes back waits for an answer.
      if (this.isCalm) return this.random.chance(0.3) ? wait + this.random.below(60) : wait
      return this.faulty && this.random.chance(0.02) ? wait + this.random.below(400) : wait
    }
    this.servers = Array.from(
      { length: random.pick(shape.servers) },
      () => new MemoryStreamServers({ clock: this.clock, delayMs, maxRecordBytes: 1 << 20 }),
    )
    this.network = new MemoryRegion({
      clock: this.clock,
      delayMs,
      drops: () => this.faulty && !this.isCalm && this.random.chance(0.02),
      hidesNotices: () => this.random.chance(this.faulty ? 0.3 : 0.05),
    })
  }

  start(): void {
    forgetCopies()
    for (const name of this.bootstrap) this.boot(name, this.newDisk())
  }

  private newDisk(): ReplicaDisk {
    return new ReplicaDisk(Buffer.from(this.random.fill(new Uint8Array(4))).toString('hex'))
  }

  private boot(name: string, disk: ReplicaDisk): void {
    const store = new SimulatedStore({
      disk,
      clock: this.clock,
      random: this.random,
      retainEntries: this.retainEntries,
      commitMs: () => 0.1 + this.random.next() * this.slowness,
    })
    const streams = this.servers.map((server, number) => {
      const client = server.client()
      client.faults.isDown = this.dead.has(number)
      client.faults.dropsAnswer = () => this.faulty && this.random.chance(0.05)
      client.faults.duplicates = () => this.faulty && this.random.chance(0.05)
      return client
    })
    const places = streams.map((client, number) => ({
      name: `p${number}`,
      streams: client,
      isReachable: () => !client.faults.isDown,
    }))
    const peers = this.network.join(name)
    const log = startReplicatedLog({
      name,
      bootstrap: this.bootstrap,
      streamPrefix: 's',
      store,
      streams: openPlacedStreams(places),
      peers,
      board: peers,
      endOfTurn: () => this.clock.sleep(0.1),
      environment: fakeEnvironment(this.clock, this.random.below(2 ** 31)),
      log: silentLogger,
      pace: this.shape.pace,
      limits: { maxEntries: 100, maxBytes: 1 << 20, deadlineMs: 1500 },
      publisher: { publishMs: 250, echoMs: 300, retryMs: 20, maxRecordBytes: 300 },
      onShown: () => this.compare(name),
      onFailure: (error) => this.fail(error),
    })
    this.nodes.set(name, { name, disk, store, log, streams, peers, isUp: true, compared: 0 })
  }

  private fail(reason: unknown): void {
    this.failure ??= reason
  }

  /** No two nodes ever show different entries at one position: nothing shown is taken back. */
  private compare(name: string): void {
    const node = this.nodes.get(name)
    const shown = node?.store.shownLog
    if (node === undefined || shown === undefined) return
    for (let at = Math.min(node.compared, shown.length - 1); at < shown.length; at++) {
      if (at < 0) continue
      const own = shown[at]?.name ?? ''
      this.truth[at] ??= own
      if (this.truth[at] !== own) this.fail(new Error(`${name} shows another entry at position ${at + 1}`))
    }
    node.compared = shown.length
  }

  async run(ms: number): Promise<void> {
    await this.clock.advance(ms)
    if (this.failure !== undefined) throw this.failure
  }

  private upNodes(): Node[] {
    return [...this.nodes.values()].filter(({ isUp }) => isUp)
  }

  async step(): Promise<void> {
    const roll = this.random.below(100)
    if (roll < 60) this.operate()
    else if (roll < 67) this.crash()
    else if (roll < 69 && this.shape.restores) await this.restore()
    else if (roll < 69) this.wipe()
    else if (roll < 77) this.disturbNetwork()
    else if (roll < 83) this.network.heal()
    else if (roll < 88) this.disturbServers()
    else if (roll < 93) this.lie()
    else if (roll < 97) this.changeVoters()
    else await this.run(this.random.below(this.shape.pauseMs))
    if (this.shape.restores) this.takeImages()
    await this.run(this.random.next() * this.shape.stepMs)
  }

  private operate(): void {
    const up = this.upNodes()
    if (up.length === 0 || this.busy >= 6) return
    const node = this.random.pick(up)
    const key = this.random.pick(keys)
    if (this.random.chance(0.4)) this.follow(this.read(node, key))
    else this.follow(this.write(node, key))
  }

  private follow(operation: Promise<void>): void {
    this.busy++
    this.report.operations++
    operation
      .catch((error) => this.fail(error))
      .finally(() => {
        this.busy--
      })
  }

  private async read(node: Node, key: string): Promise<void> {
    const callMs = this.clock.monotonic()
    try {
      await node.log.barrier(key === ruleKey && this.random.chance(0.7) ? 'rules' : 'position')
    } catch {
      return
    }
    if (!node.isUp) return
    const shown = node.store.shownLog
    if (shown === undefined) throw new Error('a barrier passed and nothing can be read')
    const etag = shown.at(-1)?.registers[key] ?? null
    const returnMs = this.clock.monotonic()
    this.history.push({ key, input: { type: 'get' }, output: { etag }, callMs, returnMs })
  }

  private async write(node: Node, key: string): Promise<void> {
    const { random } = this
    const current = node.store.shownLog?.at(-1)?.registers[key]
    const isMatched = random.chance(0.3) && current !== undefined
    const ifMatch = isMatched ? { ifMatch: current } : {}
    const number = ++this.operations
    const input: Exclude<KeyInput, { type: 'get' }> = random.chance(0.2)
      ? { type: 'delete', ...ifMatch }
      : {
          type: 'put',
          etag: `e${number}`,
          ...(!isMatched && random.chance(0.3) ? { ifNoneMatch: '*' as const } : ifMatch),
        }
    // A client that retries elsewhere repeats the very same entry.
    const session = Uint8Array.of(number >>> 16, number >>> 8, number, 0, 0, 0, 0, 0)
    const entry = encodeCommand(session, 1, { key, input })
    const callMs = this.clock.monotonic()
    let through = node
    for (let attempt = 0; attempt < 3; attempt++) {
      try {
        const { answer, position } = await through.log.submit(session, 1, entry)
        this.report.acknowledged++
        this.acknowledged.set(`${Buffer.from(session).toString('hex')} 1`, through.name)
        this.checkShown(through, position)
        const output = decodeAnswer(answer)
        this.history.push({ key, input, output, callMs, returnMs: this.clock.monotonic() })
        return
      } catch (reason) {
        const { code } = StorageError.from(reason)
        if (code !== 'UNAVAILABLE' && code !== 'OVERLOADED' && code !== 'CLOSED') throw reason
      }
      const up = this.upNodes()
      if (up.length === 0 || random.chance(0.4)) break
      through = random.pick(up)
    }
    this.history.push({ key, input, output: undefined, callMs, returnMs: Number.POSITIVE_INFINITY })
  }

  private checkShown({ name, store }: Node, position: number): void {
    if ((store.shownLog?.length ?? 0) < position)
      throw new Error(`${name} acknowledged what it does not show`)
  }

  private crash(): void {
    const node = this.random.pick([...this.nodes.values()])
    if (node.isUp) this.stop(node)
    else this.boot(node.name, node.disk)
  }

  private stop(node: Node): void {
    this.report.crashes++
    node.isUp = false
    // The disk belongs to nobody: whatever this process still wanted to write is lost.
    node.disk.owner++
    this.onCrash?.(node.disk)
    node.peers.leave()
    for (const client of node.streams) void client.close()
    node.log.close().catch(() => undefined)
  }

  /** One disk in a run at most: the others hold everything that was acknowledged. */
  private wipe(): void {
    const { wipes, restores } = this.report
    if (wipes + restores > 0 || this.bootstrap.length < 3 || this.truth.length === 0) return
    const node = this.random.pick([...this.nodes.values()])
    if (node.isUp) this.stop(node)
    this.report.wipes++
    this.boot(node.name, this.newDisk())
  }

  /** A backup of a disk, taken while the node runs. */
  private takeImages(): void {
    for (const { name, disk } of this.nodes.values()) {
      if (this.random.chance(0.1)) this.images.set(name, disk.copy())
    }
  }

  /**
   * The one disk of the run comes back as it was when the image was taken, under the incarnation that it has now, while the order is
   * lost. The others are there, and nodes hear each other until it votes again: that is the one failure that a majority bears.
   */
  private async restore(): Promise<void> {
    const { wipes, restores } = this.report
    const [name, image] = this.random.pick([...this.images, [undefined, undefined]] as const)
    const node = this.nodes.get(name ?? '')
    if (wipes + restores > 0 || node === undefined || image === undefined) return
    this.report.restores++
    if (node.isUp) this.stop(node)
    this.network.heal()
    this.isCalm = true
    if (this.random.chance(0.5)) this.loseOrder()
    for (const other of [...this.nodes.values()]) {
      if (other !== node && !other.isUp) this.boot(other.name, other.disk)
    }
    this.boot(node.name, image)
    const isBack = (): boolean => this.nodes.get(node.name)?.log.replica.rejoin.isDone === true
    for (let passedMs = 0; passedMs < 2000 && !isBack(); passedMs += 2) {
      if (this.random.chance(0.3)) this.operate()
      await this.run(2)
    }
    this.isCalm = false
  }

  private disturbNetwork(): void {
    const names = [...this.nodes.keys()]
    if (names.length < 2) return
    const left = this.random.pick(names)
    const right = this.random.pick(names.filter((name) => name !== left))
    if (this.random.chance(0.5)) this.network.cut(left, right)
    else this.network.silence(left, right)
  }

  private disturbServers(): void {
    const number = this.random.below(this.servers.length)
    if (this.random.chance(0.5)) {
      // The machine is gone, or back.
      const isDead = !this.dead.delete(number)
      if (isDead) this.dead.add(number)
      for (const { streams } of this.upNodes()) streams[number]?.setDown(isDead)
      return
    }
    const client = this.random.pick([...this.nodes.values()]).streams[number]
    client?.setDown(!client.faults.isDown)
  }

  private loseOrder(): void {
    this.report.losses++
    for (const server of this.servers) for (const name of server.names) server.loseStream(name)
  }

  private lie(): void {
    if (this.mayLie && lieSomewhere(this.random, this.random.pick(this.servers))) this.report.losses++
  }

  /** An operator: adds or removes a voter, or takes a wiped node in again. */
  private changeVoters(): void {
    const node = this.upNodes().find(({ store }) => (store.shownLog?.length ?? 0) > 0)
    const state = node?.store.shownLog?.at(-1)
    if (node === undefined || state === undefined) return
    const now = state.voters.length > 0 ? state.voters : latestVoters(node.store.row.voterSets)
    const byName = new Map(now.map((voter) => [voterName(voter), voter]))
    const target = this.random.pick(['a', 'b', 'c', 'd', 'e', 'f'])
    const other = this.nodes.get(target)
    if (other === undefined) {
      if (this.nodes.size >= 5) return
      this.boot(target, this.newDisk())
      return
    }
    const id = voterId(target, other.disk.row.incarnation)
    // With fewer than three nobody may fail; a node with nothing yet makes no good voter.
    if (byName.get(target) === id && byName.size > 3) byName.delete(target)
    else if (byName.get(target) !== id && other.disk.log.length > 0) byName.set(target, id)
    else return
    const number = ++this.operations
    const session = Uint8Array.of(number >>> 16, number >>> 8, number, 1, 0, 0, 0, 0)
    const command = { voters: [...byName.values()].sort(), epoch: state.epoch + 1 }
    this.follow(
      node.log.submit(session, 1, encodeCommand(session, 1, command)).then(
        () => {
          this.report.voterChanges++
        },
        () => undefined,
      ),
    )
  }

  /** No more faults: everybody comes back, and everything goes on. */
  async heal(): Promise<void> {
    this.faulty = false
    this.network.heal()
    for (const node of [...this.nodes.values()]) {
      if (!node.isUp) this.boot(node.name, node.disk)
    }
    // One that stays away is no reason to wait.
    const gone =
      this.servers.length > 1 && this.random.chance(0.5) ? this.random.below(this.servers.length) : -1
    for (const { streams } of this.nodes.values()) {
      for (const [number, client] of streams.entries()) client.setDown(number === gone)
    }
    const { lookMs } = this.shape
    for (let passedMs = 0; passedMs < 20_000; passedMs += lookMs) {
      await this.run(lookMs)
      if (this.busy === 0 && this.isConverged()) break
    }
    if (!this.isConverged() && this.isRightlyStuck()) {
      this.report.undecided = 1
      return
    }
    assert.ok(this.isConverged(), `the nodes do not come together: ${describeNodes(this.upNodes())}`)
    const up = this.upNodes()
    for (const node of up) this.follow(this.write(node, 'x'))
    for (const node of up) this.follow(this.read(node, 'x'))
    for (let passedMs = 0; passedMs < 6000 && this.busy > 0; passedMs += lookMs) await this.run(lookMs)
    assert.equal(this.busy, 0, `operations are stuck: ${describeNodes(this.upNodes())}`)
    await this.run(2 * lookMs)
    // Who has no vote hears a moment later than others that the last entry is confirmed.
    for (let passedMs = 0; passedMs < 6000 && !this.isConverged(); passedMs += lookMs) await this.run(lookMs)
    assert.ok(this.isConverged(), `the nodes do not stay together: ${describeNodes(this.upNodes())}`)
  }

  private isConverged(): boolean {
    const up = this.upNodes()
    const ends = up.map(({ store }) => `${store.position} ${store.shownLog?.length} ${store.lastShown}`)
    return new Set(ends).size === 1 && up.every(({ log }) => log.replica.isReadable && log.replica.isActive)
  }

  /**
   * The stream gave different entries to different voters, and the disk that could tell which of them were acknowledged is gone: two
   * failures at once. Nobody may decide; they say so.
   */
  private isRightlyStuck(): boolean {
    return (
      this.report.wipes > 0 &&
      this.report.losses > 0 &&
      this.upNodes().some(({ log }) => /two versions of the log/.test(log.replica.trouble ?? ''))
    )
  }

  check(): void {
    if (this.report.undecided > 0) return
    const [first, ...others] = this.upNodes()
    const log = first?.store.shownLog ?? []
    for (const { store } of others) assert.equal(store.lastShown, log.at(-1)?.name)
    this.report.generations = first?.log.replica.ballot.round ?? 0
    const ids = new Set(log.map(({ id }) => id))
    for (const [id, name] of this.acknowledged) {
      assert.ok(ids.has(id), `an entry that ${name} acknowledged is lost`)
    }
    for (const key of keys) {
      const etag = log.at(-1)?.registers[key] ?? null
      const at = this.clock.monotonic()
      this.history.push({ key, input: { type: 'get' }, output: { etag }, callMs: at + 1, returnMs: at + 2 })
    }
    const verdict = checkLinearizable(this.history, objectKeyModel)
    assert.ok(verdict.linearizable, `not linearizable: ${JSON.stringify(verdict)}`)
  }

  async stopAll(): Promise<void> {
    for (const node of this.upNodes()) this.stop(node)
    await this.clock.advance(10)
  }
}

/**
 * One run. Throws, with the seed in its message, when a promise is broken.
 * @param onCrash what a process's death does to its disk; default: nothing
 */
export async function simulateReplicatedLog(
  seed: number,
  steps: number,
  shape: LogShape = large,
  onCrash?: (disk: ReplicaDisk) => void,
): Promise<ReplicatedLogReport> {
  const world = new World(seed, shape, onCrash)
  try {
    world.start()
    await world.run(world.random.below(shape.startMs))
    for (let step = 0; step < steps; step++) await world.step()
    await world.heal()
    world.check()
    await world.stopAll()
  } catch (cause) {
    const again = `npm run simulate -- ${shape.name} --seed ${seed} --steps ${steps}`
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`seed ${seed}: ${reason}\nrepeat it with: ${again}`, { cause })
  }
  return world.report
}
