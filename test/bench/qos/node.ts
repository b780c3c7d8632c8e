// One node with three S3 endpoints over the same catalog and store: without quality of service, with its own rules, and
// with the default policies. One process, so that heap, compiled code and machine are the same for all three. Tells its
// parent the endpoints, answers each message with what was used and decided so far, and ends when the parent goes.
import { silentLogger } from '../../../core/contract/logger.ts'
import { createS3Server } from '../../../core/gateway/s3/server.ts'
import { configSchema } from '../../../core/node/config/schema.ts'
import { openNodePolicies } from '../../../core/node/policies/node-policies.ts'
import { openQos, type Qos } from '../../../core/qos/open-qos.ts'
import { createNodeMetrics } from '../../../core/telemetry/metrics.ts'
import { createRequestTelemetry } from '../../../core/telemetry/request-telemetry.ts'
import { accounts, startS3Region, systemEnvironment } from '../../kit/s3-region.ts'

import { type TimedAdmission, timeAdmission } from './timed-admission.ts'

export type Side = 'without' | 'rules' | 'policies'

/** The first message. */
export interface BenchEndpoints {
  readonly urls: Readonly<Record<Side, string>>
  readonly accessKeyId: string
  readonly secretKey: string
}

/** What the parent asks for: what was used so far, or the time in admission while it goes from `start` to `stop`. */
export type BenchQuestion = 'use' | 'start' | 'stop'

/** The answer to any question. */
export interface BenchUse {
  /** Processor time of the node so far, us. */
  readonly cpuUs: number
  /** Who classified and admitted the last request of each side that asks. */
  readonly deciders: Readonly<Record<string, string>>
  /** After `stop`: median us in admission of a request, of each side that asks. */
  readonly admissionUs: Readonly<Record<string, number>>
}

const config = configSchema.parse({})
const environment = systemEnvironment
const observed = () => {
  const { registry } = createNodeMetrics({}, 'bench')
  return { registry, observer: createRequestTelemetry(registry, silentLogger) }
}
const qosOn = (registry: ReturnType<typeof observed>['registry']): Qos =>
  openQos({ config: config.qos, environment, log: silentLogger, registry, nextTurn: setImmediate })

const without = observed()
const region = await startS3Region({ hooks: { observer: without.observer } })
const urls: Record<Side, string> = { without: region.endpoint, rules: '', policies: '' }
const opened = new Map<Side, Qos>()
const timed = new Map<Side, TimedAdmission>()
for (const side of ['rules', 'policies'] as const) {
  const { registry, observer } = observed()
  const qos = qosOn(registry)
  opened.set(side, qos)
  const admission = timeAdmission(qos.admission)
  timed.set(side, admission)
  const server = createS3Server(region.gateway, { observer, admission })
  const { port } = await server.listen('127.0.0.1', 0)
  urls[side] = `http://127.0.0.1:${port}`
  if (side === 'policies') {
    await openNodePolicies({
      config: config.policies,
      node: config.node,
      catalog: region.catalog,
      qos,
      classTargetMs: () => 0,
      environment,
      log: silentLogger,
      registry,
    })
  }
}

const { root } = accounts
if (root === undefined) throw new Error('there is no root account')
process.on('message', (question: BenchQuestion) => {
  if (question === 'start') for (const admission of timed.values()) admission.start()
  const admissionUs =
    question === 'stop'
      ? Object.fromEntries([...timed].map(([side, admission]) => [side, admission.stop()]))
      : {}
  const { user, system } = process.cpuUsage()
  const deciders = [...opened].map(([side, qos]): [string, string] => {
    const [last] = qos.inspection.recent(1)
    return [side, `${last?.classifiedBy} and ${last?.admittedBy}`]
  })
  process.send?.({
    cpuUs: user + system,
    deciders: Object.fromEntries(deciders),
    admissionUs,
  } satisfies BenchUse)
})
process.on('disconnect', () => void region.close().finally(() => process.exit(0)))
process.send?.({ urls, accessKeyId: root.accessKeyId, secretKey: root.secretKey } satisfies BenchEndpoints)
