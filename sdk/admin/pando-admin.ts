import { base64 } from '../client/encoding.ts'
import { sleep } from '../client/environment.ts'
import { invalidArgument } from '../client/errors.ts'
import type { AdminChannel } from './channel.ts'
import { type AdminCallOptions, AdminConnection, type PandoAdminOptions } from './connection.ts'
import { type JobOptions, runJob } from './jobs.ts'
import { type MetricSet, parseMetrics } from './metrics.ts'
import { AdminSharing } from './sharing.ts'
import type {
  AccessKey,
  ActivatePolicy,
  AdminSession,
  Bucket,
  ClusterReport,
  ExplainedDecision,
  ExplainedRequest,
  FailoverPlan,
  FailoverResult,
  FederationStatus,
  GroupStatus,
  InviteReply,
  InviteRequest,
  JobResult,
  LockRecord,
  LostChange,
  NodeChange,
  NodeEvent,
  NodeLinksReport,
  NodeStats,
  NodeStatus,
  PeerStatus,
  PolicyDeployment,
  PolicyInspection,
  PolicyList,
  PolicyStatus,
  RegionConfigState,
  ReloadReport,
  ReplicateRequest,
  ReplicationReport,
  RunFailoverRequest,
  SetGroupRequest,
} from './types.ts'

/**
 * Administration of a node, its region and its federation, from Node and from pages of the console, over the console's HTTP
 * API or (`pando/sdk/admin/grpc`) over gRPC. Every call rejects with a `PandoError` whose `code` is the product's (core/contract/ERRORS.md), or with the reason of
 * its signal. With `credentials` it logs in by itself, again when the session has ended.
 *
 * ```ts
 * const admin = new PandoAdmin({ endpoint: 'http://127.0.0.1:9002', credentials })
 * console.log((await admin.status()).state)
 * ```
 */
export class PandoAdmin {
  readonly #connection: AdminChannel
  readonly buckets: AdminBuckets
  readonly keys: AdminKeys
  readonly cluster: AdminCluster
  readonly policies: AdminPolicies
  readonly federation: AdminFederation
  readonly sharing: AdminSharing
  readonly replication: AdminReplication
  readonly failover: AdminFailover
  readonly maintenance: AdminMaintenance
  readonly config: AdminConfig

  /** InvalidArgument for what is no endpoint. Nothing is sent. */
  constructor(options: PandoAdminOptions | { readonly channel: AdminChannel }) {
    const connection = 'channel' in options ? options.channel : new AdminConnection(options)
    this.#connection = connection
    this.buckets = new AdminBuckets(connection)
    this.keys = new AdminKeys(connection)
    this.cluster = new AdminCluster(connection)
    this.policies = new AdminPolicies(connection)
    this.federation = new AdminFederation(connection)
    this.sharing = new AdminSharing(connection)
    this.replication = new AdminReplication(connection)
    this.failover = new AdminFailover(connection)
    this.maintenance = new AdminMaintenance(connection)
    this.config = new AdminConfig(connection)
  }

  /** Begins a session. The secret answers a challenge and is not sent. UNAUTHENTICATED; OVERLOADED after many failures. */
  login(accessKeyId: string, secretAccessKey: string): Promise<AdminSession> {
    return this.#connection.login(accessKeyId, secretAccessKey)
  }

  /** Ends the session at the node. */
  logout(): Promise<void> {
    return this.#connection.logout()
  }

  /** Who is logged in. UNAUTHENTICATED without a session. */
  session(): Promise<AdminSession> {
    return this.#connection.session()
  }

  /** The node that answers: state, problems, addresses, how much it stores. */
  status(options: AdminCallOptions = {}): Promise<NodeStatus> {
    return this.#connection.call('GetStatus', {}, options)
  }

  stats(options: AdminCallOptions = {}): Promise<NodeStats> {
    return this.#connection.call('GetStats', {}, options)
  }

  /** Connections to other nodes, their transports and why each was chosen. */
  links(options: AdminCallOptions = {}): Promise<NodeLinksReport> {
    return this.#connection.call('GetLinks', {}, options)
  }

  /** What the node tells Prometheus. Needs no session. */
  async metrics(options: AdminCallOptions = {}): Promise<MetricSet> {
    return parseMetrics(await this.#connection.metrics(options))
  }

  /** Events of this node with a greater number, the newest first; at most the last 500. */
  async events(after = 0, options: AdminCallOptions = {}): Promise<readonly NodeEvent[]> {
    return (await this.#connection.events<{ events: readonly NodeEvent[] }>(after, options)).events
  }

  /** Stops the node; it answers first. */
  async stop(): Promise<void> {
    await this.#connection.call('Stop')
  }

  /** Of a gRPC channel: ends it. Over HTTP there is nothing to end but the session. */
  close(): void {
    this.#connection.close()
  }
}

class AdminPart {
  protected readonly connection: AdminChannel

  constructor(connection: AdminChannel) {
    this.connection = connection
  }
}

class AdminBuckets extends AdminPart {
  /** All buckets of the region, whoever owns them, by name. */
  async *list(options: AdminCallOptions = {}): AsyncGenerator<Bucket, void, undefined> {
    for (let after = ''; ; ) {
      const page = await this.connection.call<{ buckets: readonly Bucket[]; truncated: boolean }>(
        'ListBuckets',
        { after },
        options,
      )
      yield* page.buckets
      const last = page.buckets.at(-1)
      if (!page.truncated || last === undefined) return
      after = last.name
    }
  }

  /** `owner`: an account; default root. INVALID_BUCKET_NAME, BUCKET_ALREADY_EXISTS. */
  create(name: string, owner = ''): Promise<Bucket> {
    return this.connection.call('CreateBucket', { name, owner })
  }

  /** BUCKET_NOT_EMPTY, NO_SUCH_BUCKET. */
  async delete(name: string): Promise<void> {
    await this.connection.call('DeleteBucket', { name })
  }

  /** Counts objects and bytes: reads the whole listing. */
  async measure(
    name: string,
    options: JobOptions = {},
  ): Promise<{ readonly objects: number; readonly bytes: number }> {
    const { counts } = await runJob(this.connection, 'StatBucket', { name }, options)
    return { objects: counts['objects'] ?? 0, bytes: counts['bytes'] ?? 0 }
  }
}

class AdminKeys extends AdminPart {
  /** Those that were made; the root key is not among them. */
  async list(options: AdminCallOptions = {}): Promise<readonly AccessKey[]> {
    return (await this.connection.call<{ keys: readonly AccessKey[] }>('ListKeys', {}, options)).keys
  }

  /**
   * A new key; the secret is told this once. `account` exists as soon as it has a key; default root. ACCESS_DENIED over a
   * connection that others can read.
   */
  async create(
    request: { readonly name?: string; readonly account?: string } = {},
  ): Promise<{ readonly key: AccessKey; readonly secretAccessKey: string }> {
    const { name = '', account = '' } = request
    const made = await this.connection.call<{ key: AccessKey; secretKey: string }>('CreateKey', {
      name,
      account,
    })
    return { key: made.key, secretAccessKey: made.secretKey }
  }

  /** Counts from the next request on; a session of the key ends. NO_SUCH_ACCESS_KEY. */
  setEnabled(accessKeyId: string, enabled: boolean): Promise<AccessKey> {
    return this.connection.call('SetKeyEnabled', { accessKeyId, enabled })
  }
}

class AdminCluster extends AdminPart {
  /** The region's nodes, whether everything is safe, and what is being done. */
  report(options: AdminCallOptions = {}): Promise<ClusterReport> {
    return this.connection.call('GetCluster', {}, options)
  }

  /** Answers when the change is in the cluster map; chunks move afterwards. */
  changeNode(change: NodeChange): Promise<ClusterReport> {
    return this.connection.call('ChangeNode', change)
  }

  /** Only a node that holds nothing any more, or (`force`) one that never comes back. */
  removeNode(name: string, options: { readonly force?: boolean } = {}): Promise<ClusterReport> {
    return this.connection.call('RemoveNode', { name, force: options.force ?? false })
  }

  setReplicas(replicas: number): Promise<ClusterReport> {
    return this.connection.call('SetReplicas', { replicas })
  }

  async locks(options: AdminCallOptions = {}): Promise<readonly LockRecord[]> {
    return (await this.connection.call<{ locks: readonly LockRecord[] }>('GetLocks', {}, options)).locks
  }
}

class AdminPolicies extends AdminPart {
  /** What is deployed, what was before, and what has been pushed. */
  list(options: AdminCallOptions = {}): Promise<PolicyList> {
    return this.connection.call('ListPolicies', {}, options)
  }

  /** How the versions serve on this node. */
  status(options: AdminCallOptions = {}): Promise<PolicyStatus> {
    return this.connection.call('GetPolicyStatus', {}, options)
  }

  /** Verifies, loads and tests a package, and keeps it; nothing serves it yet. POLICY_REFUSED says what is wrong. */
  push(
    wasm: Uint8Array,
    options: {
      readonly config?: string
      readonly signature?: { readonly publicKey: string; readonly signature: string }
    } = {},
  ): Promise<PolicyInspection> {
    const { config = '', signature } = options
    return this.connection.call('PushPolicy', { wasm: base64(wasm), config, signature })
  }

  activate(request: ActivatePolicy): Promise<PolicyDeployment> {
    return this.connection.call('ActivatePolicy', request)
  }

  /** Back to the version before, or to that digest of its history. */
  rollback(name: string, digest = ''): Promise<PolicyDeployment> {
    return this.connection.call('RollbackPolicy', { name, digest })
  }

  /** No more asked; its history stays. */
  deactivate(name: string): Promise<PolicyDeployment> {
    return this.connection.call('DeactivatePolicy', { name })
  }

  /** Why the last requests were treated as they were, the newest first; at most 100. */
  async requests(recent = 20, options: AdminCallOptions = {}): Promise<readonly ExplainedRequest[]> {
    return (await this.#explain({ recent }, options)).requests
  }

  /** NO_SUCH_KEY: not among the last ones that the node remembers. */
  async request(requestId: string, options: AdminCallOptions = {}): Promise<ExplainedRequest | undefined> {
    return (await this.#explain({ requestId }, options)).requests[0]
  }

  /** The sampled decisions of a hook (`select`, `classify`, `admit`, `plan`, `resolve`), the newest first. */
  async decisions(hook: string, options: AdminCallOptions = {}): Promise<readonly ExplainedDecision[]> {
    return (await this.#explain({ hook }, options)).decisions
  }

  /** Requests as they are decided, the oldest first; of a burst between two looks at most 100. Ends with the signal. */
  async *watch(
    options: AdminCallOptions & { readonly intervalMs?: number } = {},
  ): AsyncGenerator<ExplainedRequest, void, undefined> {
    const { signal, intervalMs = 1000 } = options
    let seen = new Set<string>()
    for (let first = true; signal?.aborted !== true; first = false) {
      const requests = await this.requests(100, options)
      const fresh = requests.filter(({ requestId }) => !seen.has(requestId))
      seen = new Set(requests.map(({ requestId }) => requestId))
      if (!first) yield* fresh.toReversed()
      await sleep(this.connection, intervalMs, signal)
    }
  }

  /** The last sampled calls as JSON lines, at most 8 MiB: what `readTrace` of `pando/sdk/policy` reads. */
  async record(options: AdminCallOptions = {}): Promise<string> {
    let text = ''
    for await (const { lines } of this.connection.stream<{ lines: string }>('RecordPolicies', {}, options))
      text += lines
    return text
  }

  #explain(
    subject: { readonly requestId: string } | { readonly recent: number } | { readonly hook: string },
    options: AdminCallOptions,
  ): Promise<{ requests: readonly ExplainedRequest[]; decisions: readonly ExplainedDecision[] }> {
    return this.connection.call('ExplainPolicy', subject, options)
  }
}

/** JSON says null where there is no tunnel. */
type Received<T extends { readonly tunnel?: unknown }> = Omit<T, 'tunnel'> & {
  readonly tunnel: T['tunnel'] | null
}

const peerOf = ({ tunnel, ...peer }: Received<PeerStatus>): PeerStatus =>
  tunnel === null || tunnel === undefined ? peer : { ...peer, tunnel }

const federationOf = (
  status: Omit<FederationStatus, 'peers'> & { readonly peers: readonly Received<PeerStatus>[] },
): FederationStatus => ({ ...status, peers: status.peers.map(peerOf) })

class AdminFederation extends AdminPart {
  async status(options: AdminCallOptions = {}): Promise<FederationStatus> {
    return federationOf(await this.connection.call('GetFederation', {}, options))
  }

  /** A token that lets one region in, once: whoever has it may use it. */
  invite(request: Partial<InviteRequest> = {}): Promise<InviteReply> {
    return this.connection.call('InviteRegion', { validMs: 0, ...request })
  }

  async join(token: string): Promise<PeerStatus> {
    return peerOf(await this.connection.call('JoinRegion', { token }))
  }

  async revoke(regionId: number): Promise<FederationStatus> {
    return federationOf(await this.connection.call('RevokeRegion', { regionId }))
  }

  /** `afterMs`: for how long the old key is shown while peers learn the new one. */
  async rotateKey(afterMs: number): Promise<FederationStatus> {
    return federationOf(await this.connection.call('RotateRegionKey', { afterMs }))
  }
}

class AdminReplication extends AdminPart {
  /** Buckets that other regions have too, and how far behind each copy is. */
  async report(options: AdminCallOptions = {}): Promise<ReplicationReport> {
    return (await this.connection.call<{ buckets: ReplicationReport }>('GetReplication', {}, options)).buckets
  }

  /** Gives a bucket its rule, or changes it. */
  async replicate(
    request: Partial<ReplicateRequest> & Pick<ReplicateRequest, 'bucket' | 'regions'>,
  ): Promise<ReplicationReport> {
    return this.#change('ReplicateBucket', { mode: 'single', prefix: '', rpoMs: 0, onBreach: '', ...request })
  }

  /** Ends what this region does for the bucket; copies stay. */
  stop(bucket: string): Promise<ReplicationReport> {
    return this.#change('StopReplication', { bucket })
  }

  /** Begins to compare the copies with what is here; ranges that differ are repaired. */
  compare(bucket: string): Promise<ReplicationReport> {
    return this.#change('CompareReplication', { bucket })
  }

  /** Tries again what waits, dead letters too. */
  retry(bucket: string): Promise<ReplicationReport> {
    return this.#change('RetryReplication', { bucket })
  }

  async #change(method: string, body: object): Promise<ReplicationReport> {
    return (await this.connection.call<{ buckets: ReplicationReport }>(method, body)).buckets
  }
}

class AdminFailover extends AdminPart {
  async report(options: AdminCallOptions = {}): Promise<readonly GroupStatus[]> {
    return (await this.connection.call<{ groups: readonly GroupStatus[] }>('GetFailover', {}, options)).groups
  }

  /** Makes a group of buckets that have one primary together, or changes it; at its primary. */
  async set(
    request: Partial<SetGroupRequest> & Pick<SetGroupRequest, 'group' | 'buckets'>,
  ): Promise<GroupStatus | undefined> {
    const body = { syncBuckets: [], witnesses: [], automatic: false, flapMs: 0, leaseMs: 0, ...request }
    const { groups } = await this.connection.call<{ groups: readonly GroupStatus[] }>(
      'SetFailoverGroup',
      body,
    )
    return groups.find(({ record }) => record.name === request.group)
  }

  /** Takes a group away in all its regions. */
  async remove(group: string): Promise<void> {
    await this.connection.call('RemoveFailoverGroup', { group })
  }

  /** What a failover would do; changes nothing. */
  plan(group: string, to: number, options: AdminCallOptions = {}): Promise<FailoverPlan> {
    return this.connection.call('PlanFailover', { group, to, acceptLoss: -1, isPrimaryDown: false }, options)
  }

  /** `acceptLoss`: entries that may be lost when the primary does not answer; default -1, none; an unknown number wants `Number.MAX_SAFE_INTEGER`. */
  run(
    request: Partial<RunFailoverRequest> & Pick<RunFailoverRequest, 'group' | 'to'>,
  ): Promise<FailoverResult> {
    return this.connection.call('RunFailover', { acceptLoss: -1, isPrimaryDown: false, ...request })
  }

  /** What failovers have lost of what this region had written. */
  async losses(group: string, limit = 100, options: AdminCallOptions = {}): Promise<readonly LostChange[]> {
    const call = this.connection.call<{ changes: readonly LostChange[] }>(
      'GetFailoverLosses',
      { group, limit },
      options,
    )
    return (await call).changes
  }
}

class AdminMaintenance extends AdminPart {
  /** Compares chunk store and catalog; `repair` frees the orphans that are found. */
  scan(options: JobOptions & { readonly repair?: boolean } = {}): Promise<JobResult> {
    return runJob(this.connection, 'Scan', { repair: options.repair ?? false }, options)
  }

  /** Reads every stored byte and checks it. */
  scrub(options: JobOptions = {}): Promise<JobResult> {
    return runJob(this.connection, 'Scrub', {}, options)
  }

  /** Frees the space of deleted objects now. */
  collect(options: JobOptions = {}): Promise<JobResult> {
    return runJob(this.connection, 'Collect', {}, options)
  }
}

class AdminConfig extends AdminPart {
  /** Reads the configuration file again; what may change while the node runs counts from now on. INVALID_CONFIG. */
  reload(): Promise<ReloadReport> {
    return this.connection.call('ReloadConfig')
  }

  /** What the nodes of the region have in common, the newest version first, and which node has taken which. */
  versions(options: AdminCallOptions = {}): Promise<RegionConfigState> {
    return this.connection.call('GetRegionConfig', {}, options)
  }

  /**
   * Makes the next version of it, of YAML or JSON. `base`: the version that was changed, 0 for none. CONFLICT when there is a newer
   * one; INVALID_CONFIG tells every problem.
   */
  apply(change: {
    readonly base: number
    readonly text: string
    readonly author?: string
    readonly comment?: string
  }): Promise<RegionConfigState> {
    return this.connection.call('ApplyRegionConfig', { author: '', comment: '', ...change })
  }
  /** Makes an older version the next one. InvalidArgument when it is not kept; CONFLICT when somebody has made another one meanwhile. */
  async rollback(
    version: number,
    options: { readonly author?: string; readonly comment?: string } = {},
  ): Promise<RegionConfigState> {
    const { versions } = await this.versions()
    const found = versions.find((one) => one.version === version)
    if (found === undefined) throw invalidArgument(`there is no version ${version} of the configuration`)
    const base = versions[0]?.version ?? 0
    return this.apply({ comment: `as in version ${version}`, ...options, base, text: found.text })
  }
}
