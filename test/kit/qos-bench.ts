import type { Admission, AdmissionRequest } from '../../core/contract/admission.ts'
import { silentLogger } from '../../core/contract/logger.ts'
import type { QosConfig } from '../../core/contract/qos.ts'
import { configSchema } from '../../core/node/config/schema.ts'
import type { NextTurn } from '../../core/qos/loop-turn.ts'
import { openQos, type Qos } from '../../core/qos/open-qos.ts'
import { type FakeClock, fakeEnvironment } from './fake-clock.ts'
import type { Random } from './random.ts'

/** The `qos` section as a file would give it. */
export function qosConfig(section: unknown = {}): QosConfig {
  return configSchema.parse({ qos: section }).qos
}

export function openTestQos(clock: FakeClock, section: unknown = {}, nextTurn?: NextTurn): Qos {
  return openQos({
    config: qosConfig(section),
    environment: fakeEnvironment(clock),
    log: silentLogger,
    ...(nextTurn === undefined ? {} : { nextTurn }),
  })
}

let requests = 0

export function requestOf(tenant: string, more: Partial<AdmissionRequest> = {}): AdmissionRequest {
  requests++
  return {
    id: `R${requests}`,
    operation: 'head',
    byteLength: 0,
    tenant,
    accessKeyId: `${tenant}-key`,
    bucket: 'bucket',
    key: 'key',
    header: () => undefined,
    isWaitingForClient: () => false,
    ...more,
  }
}

/** A machine that works on so many requests at a time, first come, first served, as disks and event loops do. */
export class Machine {
  busyMs = 0
  readonly #clock: FakeClock
  readonly #random: Random
  readonly #serviceMs: number
  #free: number
  readonly #line: (() => void)[] = []

  constructor(clock: FakeClock, random: Random, workers: number, serviceMs: number) {
    this.#clock = clock
    this.#random = random
    this.#free = workers
    this.#serviceMs = serviceMs
  }

  async work(factor = 1): Promise<void> {
    if (this.#free === 0) await new Promise<void>((go) => this.#line.push(go))
    else this.#free--
    // Between half and one and a half times the mean.
    const serviceMs = this.#serviceMs * factor * (0.5 + this.#random.next())
    this.busyMs += serviceMs
    await this.#clock.sleep(serviceMs)
    const next = this.#line.shift()
    if (next === undefined) this.#free++
    else next()
  }
}

export interface ClientReport {
  readonly latenciesMs: number[]
  completed: number
  shed: number
}

export interface ClientOptions {
  readonly tenant: string
  readonly connections: number
  readonly thinkMs?: number
  readonly request?: Partial<AdmissionRequest>
  /** Cost of one request in mean service times. */
  readonly factor?: number
  /** Results before this moment do not count. */
  readonly fromMs: number
  readonly untilMs: number
}

/** A tenant whose connections each send the next request when they have the answer to the last one. */
export function runClient(
  clock: FakeClock,
  admission: Admission,
  machine: Machine,
  options: ClientOptions,
): ClientReport {
  const { tenant, connections, thinkMs = 0, factor = 1, fromMs, untilMs } = options
  const report: ClientReport = { latenciesMs: [], completed: 0, shed: 0 }
  const connection = async (): Promise<void> => {
    while (clock.monotonic() < untilMs) {
      const began = clock.monotonic()
      try {
        const ticket = admission.admit(requestOf(tenant, options.request))
        try {
          await ticket.turn
          await machine.work(factor)
        } finally {
          ticket.end(0, 0)
        }
        const now = clock.monotonic()
        if (now >= fromMs && now <= untilMs) report.completed++
        if (began >= fromMs && now <= untilMs) report.latenciesMs.push(now - began)
      } catch {
        report.shed++
        await clock.sleep(100)
      }
      if (thinkMs > 0) await clock.sleep(thinkMs)
    }
  }
  for (let index = 0; index < connections; index++) void connection()
  return report
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((left, right) => left - right)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}
