import type { Clock } from '../../../core/contract/clock.ts'
import { type Logger, silentLogger } from '../../../core/contract/logger.ts'
import type { AdmitInput, PolicyFallbacks, SelectInput } from '../../../core/contract/policy.ts'
import type { PolicyStore } from '../../../core/contract/policy-deployment.ts'
import { createInputReader, defaultTables, type PolicyInputs } from '../../../plugins/abi/json-values.ts'
import { MemoryPolicyStore } from '../../../plugins/host/memory-policy-store.ts'
import { PolicyHost, type PolicyHostOptions } from '../../../plugins/host/policy-host.ts'

/** Real time, and a hand that can move it forward. */
export class MovableClock implements Clock {
  #movedMs = 0
  readonly #sleepers = new Set<{ readonly untilMs: number; readonly wake: () => void }>()

  now(): number {
    return Date.now() + this.#movedMs
  }

  monotonic(): number {
    return performance.now() + this.#movedMs
  }

  async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    const untilMs = this.monotonic() + delayMs
    await new Promise<void>((resolve, reject) => {
      const end = () => {
        clearTimeout(timer)
        this.#sleepers.delete(sleeper)
        signal?.removeEventListener('abort', abort)
      }
      const wake = () => {
        end()
        resolve()
      }
      const abort = () => {
        end()
        reject(signal?.reason)
      }
      const sleeper = { untilMs, wake }
      const timer = setTimeout(wake, Math.min(delayMs, 2 ** 31 - 1))
      // What waits for a hand to move the clock must not keep a test process alive.
      if (delayMs > 1_000) timer.unref()
      this.#sleepers.add(sleeper)
      signal?.addEventListener('abort', abort)
    })
  }

  move(byMs: number): void {
    this.#movedMs += byMs
    for (const sleeper of [...this.#sleepers]) if (sleeper.untilMs <= this.monotonic()) sleeper.wake()
  }
}

/** What decides where no policy does, recognisable: admits with reason 99, takes the last candidate. */
export const testFallbacks: PolicyFallbacks = {
  select: ({ candidates }) => ({
    policy: 'fallback',
    reason: 99,
    index: candidates.length - 1,
    fallbackIndex: -1,
    parallel: 1,
    chunkBytes: 4096,
  }),
  classify: () => ({ policy: 'fallback', reason: 99, classIndex: 0, priority: 0 }),
  admit: () => ({ policy: 'fallback', reason: 99, verdict: 'admit', delayMs: 0 }),
  plan: ({ classes }) => ({
    policy: 'fallback',
    reason: 99,
    classes: classes.map(({ weight, reservation, limit }) => ({ weight, reservation, limit, burst: 0 })),
  }),
  resolve: () => ({ policy: 'fallback', reason: 99, outcome: 'keep-both' }),
}

const reader = createInputReader()

export function makeInput<H extends keyof PolicyInputs>(hook: H, fields: object = {}): PolicyInputs[H] {
  const input = reader.read(hook, fields)
  if ('problem' in input) throw new Error(input.problem)
  return input
}

export const admitInput = (fields: object = {}): AdmitInput => makeInput('admit', fields)
export const selectInput = (fields: object = {}): SelectInput =>
  makeInput('select', { candidates: [{ transport: 'tcp' }, { transport: 'quic' }], ...fields })

export interface LoggedLine {
  readonly level: string
  readonly fields: object
  readonly message: string
}

export function loggerInto(lines: LoggedLine[]): Logger {
  const at = (level: string) => (fields: object, message: string) =>
    void lines.push({ level, fields, message })
  return { ...silentLogger, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

export interface PolicyRegion {
  readonly host: PolicyHost
  readonly store: PolicyStore
  readonly clock: MovableClock
  readonly log: LoggedLine[]
  /** Pushes the module and lets it serve everything. Returns its digest. */
  serve(wasm: Uint8Array, config?: string): Promise<string>
}

/** One node that follows its deployment: unsigned policies are let in unless the options say something else. */
export async function openRegion(options: Partial<PolicyHostOptions> = {}): Promise<PolicyRegion> {
  const clock = new MovableClock()
  const log: LoggedLine[] = []
  const store = options.store ?? new MemoryPolicyStore()
  const host = await PolicyHost.open({
    clock,
    logger: loggerInto(log),
    trust: { keys: [], allowUnsigned: true },
    fallbacks: testFallbacks,
    tables: defaultTables,
    ...options,
    store,
  })
  return {
    host,
    store,
    clock,
    log,
    serve: async (wasm, config = '{}') => {
      const { digest, manifest } = await host.push({ wasm }, { config })
      await host.activate({ name: manifest?.name ?? '', digest, config })
      return digest
    },
  }
}
