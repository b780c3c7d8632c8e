import type { Clock } from '../../contract/clock.ts'
import type { Logger } from '../../contract/logger.ts'
import type { MachineCapabilities } from './capabilities.ts'

export interface CapabilityWatch {
  readonly current: MachineCapabilities
  /** Looks now, beside the regular looks: for a device that has just failed. */
  refresh(): Promise<MachineCapabilities>
  stop(): Promise<void>
}

export interface CapabilityWatchOptions {
  readonly detect: () => Promise<MachineCapabilities>
  readonly clock: Clock
  readonly log: Logger
  /** Between two looks; a minute unless told. */
  readonly intervalMs?: number
  /** Told when something is other than before, with the new state. */
  readonly onChange?: (now: MachineCapabilities, before: MachineCapabilities) => void
}

/** Knows what the machine has and notices devices that come and go. */
export async function watchCapabilities(options: CapabilityWatchOptions): Promise<CapabilityWatch> {
  const { detect, clock, log, intervalMs = 60_000 } = options
  const stopped = new AbortController()
  let current = await detect()
  let looking: Promise<MachineCapabilities> | undefined

  const look = async (): Promise<MachineCapabilities> => {
    const before = current
    current = await detect()
    if (!stopped.signal.aborted && JSON.stringify(essential(current)) !== JSON.stringify(essential(before))) {
      log.info(
        { rdma: names(current), before: names(before) },
        'the capabilities of this machine have changed',
      )
      options.onChange?.(current, before)
    }
    return current
  }
  const refresh = (): Promise<MachineCapabilities> => {
    // Whoever asks while a look is under way shares it.
    looking ??= look().finally(() => {
      looking = undefined
    })
    return looking
  }
  const loop = async (): Promise<void> => {
    for (;;) {
      try {
        await clock.sleep(intervalMs, stopped.signal)
      } catch {
        return
      }
      await refresh().catch((err: unknown) => log.warn({ err }, 'capabilities could not be detected'))
    }
  }
  const running = loop()
  return {
    get current() {
      return current
    },
    refresh,
    async stop() {
      stopped.abort()
      await running
      await looking?.catch(() => undefined)
    },
  }
}

/** Free pages go up and down all the time; nobody needs to be told. */
function essential({ hugepages, ...rest }: MachineCapabilities): unknown {
  return { ...rest, hugepages: hugepages.sizes.map(({ pageBytes, total }) => ({ pageBytes, total })) }
}

const names = ({ rdma, ipoib }: MachineCapabilities): readonly string[] => [
  ...rdma.flatMap(({ name, ports }) => ports.map(({ number, state }) => `${name}/${number} ${state}`)),
  ...ipoib.map(({ name, isUp }) => `${name} ${isUp ? 'up' : 'down'}`),
]
