import { join, resolve } from 'node:path'
import { regionKeyFrom, rootKeysFrom } from '../node/config/load.ts'
import type { NodeConfig } from '../node/config/schema.ts'
import { realEnvironment } from '../node/environment.ts'
import type { ReadConfig } from '../node/region-config/config-in-force.ts'
import { readTakenVersion, type TakenVersion } from '../node/region-config/taken-version.ts'
import type { RunningWitness } from '../node/witness/start-witness.ts'
import { openLog } from '../telemetry/log.ts'
import { exitCodes } from './exit-codes.ts'
import { packageVersion } from './package-version.ts'
import { type GlobalOptions, readConfig } from './read-config.ts'
import { facts, type Terminal } from './terminal.ts'

export type UpOptions = GlobalOptions

/** Runs a node until a signal, an admin call or a fatal error ends it. */
export async function up(terminal: Terminal, options: GlobalOptions): Promise<number> {
  const { config, regionConfig } = await readStartConfig(terminal, options)
  const rootKeys = rootKeysFrom(terminal.environment)
  const regionKey = regionKeyFrom(terminal.environment)
  const log = openLog({ ...config.log, isTerminal: terminal.isInteractive })
  const { logger } = log
  const version = packageVersion()

  // A node that has lost a promise or an exception no longer knows what it has done: it ends and recovers from disk.
  const crash = (reason: unknown): never => {
    logger.error({ event: 'fatal', err: reason }, 'fatal error: the node ends at once')
    log.flush()
    process.exit(exitCodes.failed[0])
  }
  process.on('uncaughtException', crash)
  process.on('unhandledRejection', crash)

  // The first signal stops in order, once there is something to stop; a second one does not wait for anything.
  const firstSignal = listenForSignals((signal) => {
    logger.warn({ event: 'stopped' }, 'second signal: stopped at once')
    log.flush()
    process.exit(signal === 'SIGINT' ? 130 : 143)
  })
  const startNode =
    config.role === 'witness'
      ? (await import('../node/witness/start-witness.ts')).startWitness
      : (await import('../node/start-node.ts')).startNode
  const environment = realEnvironment
  const stopping = new AbortController()
  void firstSignal.then(() => stopping.abort())
  const { signal } = stopping
  let node: RunningWitness
  try {
    const readAgain: ReadConfig = (layer) => readConfig(terminal, options, layer)
    node = await startNode({
      ...{ config, rootKeys, regionKey, signal, environment, log: logger, version },
      readConfig: readAgain,
      regionConfig,
    })
  } catch (error) {
    if (!signal.aborted) throw error
    logger.info({ event: 'stopped' }, 'stopped before it served')
    log.flush()
    return exitCodes.ok[0]
  }
  // Without a terminal a hang-up is how supervisors ask for the configuration to be read again.
  if (process.stdin.isTTY !== true) {
    process.on('SIGHUP', () => {
      node.reloadConfig().catch((error: unknown) => {
        logger.error({ err: error }, 'the configuration was not taken: what was in force stays in force')
      })
    })
  }
  announce(terminal, node, config, options.json === true)

  const end = await Promise.race([
    firstSignal.then((signal) => ({ why: signal, failure: undefined })),
    node.stopRequested.then(() => ({ why: 'admin call', failure: undefined })),
    node.failure.then((failure) => ({ why: 'failure', failure })),
  ])
  if (end.failure !== undefined) {
    logger.error({ event: 'fatal', err: end.failure }, 'the node can no longer do its work and stops')
  } else {
    logger.info({ event: 'stopping', why: end.why }, 'stopping: requests in flight may finish')
  }
  const unclean = await node.stop()
  logger.info({ event: 'stopped', unclean }, 'stopped')
  log.flush()
  const code = end.failure === undefined && unclean.length === 0 ? exitCodes.ok[0] : exitCodes.failed[0]
  // Nothing should keep the process alive now; if something does, it is not waited for.
  setTimeout(() => process.exit(code), 1000).unref()
  return code
}

/**
 * The node's own file with the version of the region's configuration that it took last. One that does not fit the file any more is left
 * out: the node says so once it runs.
 */
async function readStartConfig(
  terminal: Terminal,
  options: GlobalOptions,
): Promise<{ readonly config: NodeConfig; readonly regionConfig: TakenVersion | undefined }> {
  const own = await readConfig(terminal, options)
  const taken = await readTakenVersion(resolve(terminal.workingDirectory, own.data))
  if (taken === undefined) return { config: own, regionConfig: undefined }
  try {
    return { config: await readConfig(terminal, options, taken), regionConfig: taken }
  } catch {
    return { config: own, regionConfig: undefined }
  }
}

function listenForSignals(onSecond: (signal: NodeJS.Signals) => void): Promise<NodeJS.Signals> {
  // The terminal that a node was started in is closed: it stops. Without one (nohup, a supervisor) a hang-up does not end it.
  const isForeground = process.stdin.isTTY === true
  if (!isForeground) process.on('SIGHUP', () => undefined)
  let count = 0
  return new Promise((resolve) => {
    for (const signal of isForeground
      ? (['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
      : (['SIGTERM', 'SIGINT'] as const)) {
      process.on(signal, () => {
        count++
        if (count === 1) resolve(signal)
        else onSecond(signal)
      })
    }
  })
}

function announce(terminal: Terminal, node: RunningWitness, config: NodeConfig, json: boolean): void {
  const { region, cluster } = config
  const { facts: ready, rootKeys, rootKeysFrom: origin, regionKey } = node
  if (json) {
    const keys =
      origin === 'generated' ? { rootAccessKey: rootKeys.accessKeyId, rootSecretKey: rootKeys.secretKey } : {}
    terminal.out(`${JSON.stringify({ event: 'ready', ...ready, ...keys })}\n`)
    return
  }
  if (ready.s3 === '') {
    terminal.out(
      `\nPando ${ready.version} is a witness: it votes in failover groups, ready in ${ready.startedInMs} ms\n\n` +
        facts([
          ['  Admin', `${ready.admin}   on this machine: pando failover status --data ${ready.data}`],
          ['  Metrics', `${ready.console}/metrics   health: ${ready.console}/healthz`],
          ['  Data', ready.data],
        ]) +
        '\nJoin it with the regions:\n' +
        `  pando federation invite --data ${ready.data}\n\n`,
    )
    return
  }
  const store =
    ready.store === 'reference' ? 'TypeScript reference store (slower)' : `native store, ${ready.backend}`
  const isNew = origin === 'generated'
  const secret = isNew
    ? `${rootKeys.secretKey}   shown this once; kept in ${ready.data}/root-key.json`
    : origin === 'file'
      ? `in ${ready.data}/root-key.json`
      : origin === 'region'
        ? `in ${join(cluster.keys, config.node, 'root-key.json')}`
        : 'from PANDO_ROOT_SECRET_KEY'
  // The nodes of a cluster have its key among those that `cluster init` made.
  const isCluster = origin === 'region'
  const others = isCluster ? 'cluster status' : 'debug links'
  const aws = `aws --endpoint-url ${ready.s3} s3`
  terminal.out(
    `\nPando ${ready.version} serves region ${region}: ${store}, ready in ${ready.startedInMs} ms\n\n` +
      facts([
        ['  S3', ready.s3],
        ['  Admin', `${ready.admin}   on this machine: pando status --data ${ready.data}`],
        ['  Console', `${ready.console}   (/metrics and /healthz too)`],
        ['  Data', ready.data],
        ['  Access key', rootKeys.accessKeyId],
        ['  Secret key', secret],
        ...(ready.rpc === ''
          ? []
          : [['  Other nodes', `${ready.rpc}   see them: pando ${others} --data ${ready.data}`] as const]),
        ...(regionKey === undefined || isCluster
          ? []
          : [['  Region key', shareRegionKey(regionKey)] as const]),
      ]) +
      '\nTry it:\n' +
      `  export AWS_ACCESS_KEY_ID=${rootKeys.accessKeyId} AWS_SECRET_ACCESS_KEY=${isNew ? rootKeys.secretKey : '...'} AWS_DEFAULT_REGION=${region}\n` +
      `  ${aws} mb s3://first\n` +
      `  ${aws} cp README.md s3://first/ && ${aws} ls s3://first\n\n`,
  )
}

function shareRegionKey({ from, path }: NonNullable<RunningWitness['regionKey']>): string {
  if (from === 'environment') return 'from PANDO_REGION_KEY; all nodes of the region need the same'
  const made = from === 'generated' ? 'made now, ' : ''
  return `${made}in ${path}   copy this file to the data directory of each node of the region, by a safe way`
}
