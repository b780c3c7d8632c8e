import type { Environment } from '../contract/clock.ts'
import type { StorageError } from '../contract/errors.ts'
import type { Logger } from '../contract/logger.ts'
import { createNodeMetrics, type NodeMetrics } from '../telemetry/metrics.ts'
import { isLoopback } from './config/addresses.ts'
import type { NodeConfig } from './config/schema.ts'
import { type ConsoleHandler, startConsoleServer } from './console-server.ts'
import { bindListener, dialable, listeners, refuseTakenPorts } from './listeners.ts'
import { createNodeHealth, type NodeHealth } from './node-health.ts'
import { openServerCertificate, type ServerCertificate } from './server-certificate.ts'
import type { StopStack } from './stop-stack.ts'

export interface ManagementParts {
  readonly config: NodeConfig
  readonly environment: Environment
  readonly log: Logger
  readonly version: string
  readonly parts: StopStack
  readonly deadlineMs: number
}

/** How whoever runs the process looks after it, whatever the process does besides: a node and a witness alike. */
export interface Management {
  readonly health: NodeHealth
  readonly metrics: NodeMetrics
  /** What a scrape reads; filled in as the parts start. */
  readonly sources: Parameters<typeof createNodeMetrics>[0]
  /** What S3 and the admin service show; undefined: they speak plainly. */
  readonly certificate: ServerCertificate | undefined
  readonly consoleEndpoint: string
  /** Puts the console beside metrics and health, once there is something to administer. */
  attachConsole(handler: ConsoleHandler): void
  /** Resolves with the reason when the process can no longer do its work. */
  readonly failure: Promise<StorageError>
  fail(reason: StorageError): void
  /** Resolves when an admin call asks the process to stop. */
  readonly stopRequested: Promise<void>
  requestStop(): void
}

/** Early in a start, so that health can say `starting`. INVALID_CONFIG: the certificate; UNAVAILABLE: the port. */
export async function openManagement(options: ManagementParts): Promise<Management> {
  const { config, environment, log, version, parts, deadlineMs } = options
  const { clock } = environment
  await refuseTakenPorts(config)
  warnAboutExposure(config, log)
  const health = createNodeHealth(clock, version)
  const certificate =
    config.tls.certFile === ''
      ? undefined
      : await openServerCertificate({ files: config.tls, health, clock, log: log.child({ part: 'tls' }) })
  parts.push('certificate', deadlineMs, async () => certificate?.stop())
  const sources: Parameters<typeof createNodeMetrics>[0] = {}
  const metrics = createNodeMetrics(sources, version)
  const consoleServer = await bindListener(listeners.console, config.console.listen, () =>
    startConsoleServer(config.console.listen, {
      health: () => health.check(),
      tls: certificate,
      async metrics() {
        return { contentType: metrics.registry.contentType, text: await metrics.scrape() }
      },
    }),
  )
  parts.push('console', deadlineMs, () => consoleServer.close())

  let fail: (reason: StorageError) => void = () => undefined
  const failure = new Promise<StorageError>((resolve) => {
    fail = resolve
  })
  let requestStop: () => void = () => undefined
  const stopRequested = new Promise<void>((resolve) => {
    requestStop = resolve
  })
  const consoleEndpoint = `${certificate === undefined ? 'http' : 'https'}://${dialable(consoleServer.address)}`
  return {
    attachConsole: (handler) => consoleServer.attach(handler),
    ...{ health, metrics, sources, certificate, consoleEndpoint },
    ...{ failure, fail, stopRequested, requestStop },
  }
}

/** What the admin service is reached by. */
export const adminEndpointOf = ({ certificate }: Management, { admin }: NodeConfig, port: number): string => {
  const address = dialable({ host: admin.listen.host, port })
  return certificate === undefined ? address : `https://${address}`
}

/** Plain HTTP beyond this machine is a decision, not an accident. */
function warnAboutExposure(config: NodeConfig, log: Logger): void {
  const served =
    config.role === 'witness' ? (['admin', 'console'] as const) : (['s3', 'admin', 'console'] as const)
  const exposed = (config.tls.certFile === '' ? served : []).filter(
    (name) => !isLoopback(config[name].listen.host),
  )
  if (exposed.length > 0) {
    log.warn(
      { listeners: exposed },
      'listening beyond this machine without TLS: set tls.certFile and tls.keyFile, or keep the network private',
    )
  }
}
