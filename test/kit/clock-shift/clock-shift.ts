import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** The wall clock of one process, which can be set while it runs, and again after it was started anew: see shim.c. */
export interface ShiftedClock {
  /** What the process has to be started with. */
  readonly environment: Readonly<Record<string, string>>
  /** From now on the process's wall clock is so far ahead (or behind) of the machine's. */
  set(aheadMs: number): Promise<void>
}

export interface ClockShifts extends Disposable {
  clock(name: string): ShiftedClock
}

/** Compiles the shim. Throws where there is no C compiler. */
export function openClockShifts(): ClockShifts {
  const directory = mkdtempSync(join(tmpdir(), 'pando-clock-'))
  const library = join(directory, 'clock-shift.so')
  const source = new URL('../../../../test/kit/clock-shift/shim.c', import.meta.url).pathname
  execFileSync('cc', ['-O2', '-Wall', '-shared', '-fPIC', '-o', library, source, '-ldl'], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  return {
    clock(name) {
      const file = join(directory, name)
      writeFileSync(file, Buffer.alloc(8))
      return {
        environment: { LD_PRELOAD: library, CLOCK_SHIFT_FILE: file },
        async set(aheadMs) {
          const bytes = Buffer.alloc(8)
          bytes.writeBigInt64LE(BigInt(Math.round(aheadMs)) * 1_000_000n)
          // In place: the process has the file mapped.
          await using handle = await open(file, 'r+')
          await handle.write(bytes, 0, bytes.length, 0)
        },
      }
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}
