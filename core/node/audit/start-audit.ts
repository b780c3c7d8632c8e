import type { Environment } from '../../contract/clock.ts'
import { errorCodes } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { RequestObserver } from '../../contract/request-observer.ts'
import type { TellAudit } from '../../control/audited-call.ts'
import { changesData } from '../../telemetry/audit.ts'
import { Counter, type Registry } from '../../telemetry/metrics.ts'
import type { SlaMonitor } from '../../telemetry/sla-monitor.ts'
import type { NodeConfig } from '../config/schema.ts'
import { openAuditFile } from './audit-file.ts'

export interface NodeAudit {
  /** Of admin calls, however they came. */
  readonly call: TellAudit
  /** Tells of requests what is to be kept, and passes all on. */
  observe(observer: RequestObserver): RequestObserver
  close(): Promise<void>
}

/** Undefined: there is none. INVALID_CONFIG. */
export async function startAudit(parts: {
  readonly config: Pick<NodeConfig, 'node' | 'telemetry'>
  readonly environment: Environment
  readonly registry: Registry
  readonly log: Logger
}): Promise<NodeAudit | undefined> {
  const { config, environment, log } = parts
  const { file: path, s3, maxSize: maxBytes, keep } = config.telemetry.audit
  if (path === '') return undefined
  const { clock } = environment
  const file = await openAuditFile({ path, maxBytes, keep, node: config.node, clock, log })
  registerAuditMetrics(parts.registry, () => file.lost)
  return {
    call({ via, method, actor, from, resource, error }) {
      const outcome = error === undefined ? 'ok' : outcomeOf(errorCodes[error.code].http)
      file.record({
        ...{ actor, via, from, action: method, resource, outcome },
        ...(error === undefined ? {} : { code: error.code }),
      })
    },
    observe(observer) {
      if (s3 === 'none') return observer
      return {
        started: () => observer.started(),
        finished(event) {
          observer.finished(event)
          if (!changesData(event.operation)) return
          const { bucketName, key, errorCode } = event
          file.record({
            actor: event.accessKeyId ?? 'anonymous',
            via: 's3',
            from: event.remoteAddress,
            action: event.operation,
            resource: {
              ...(bucketName === undefined ? {} : { bucket: bucketName }),
              ...(key === undefined ? {} : { key }),
            },
            outcome: event.status < 400 && errorCode === undefined ? 'ok' : outcomeOf(event.status),
            ...(errorCode === undefined ? {} : { code: errorCode }),
            request: event.requestId,
          })
        },
      }
    },
    close: () => file.close(),
  }
}

export function registerAuditMetrics(registry: Registry, lost: () => number): void {
  new Counter({
    name: 'pando_audit_lost_total',
    help: 'Records that the audit log has no line of, because its disk did not take them.',
    registers: [registry],
    collect() {
      this.reset()
      this.inc(lost())
    },
  })
}

/** 499: the client went away, and what it asked for may have happened. */
const outcomeOf = (status: number): 'refused' | 'failed' =>
  status >= 400 && status < 499 ? 'refused' : 'failed'

/** What happens with each request: metrics and log, objectives, and the audit log where there is one. */
export function observeAll(
  requests: RequestObserver,
  sla: Pick<SlaMonitor, 'finished'>,
  audit: NodeAudit | undefined,
): RequestObserver {
  const observer: RequestObserver = {
    started: () => requests.started(),
    finished(event) {
      requests.finished(event)
      sla.finished(event)
    },
  }
  return audit === undefined ? observer : audit.observe(observer)
}
