import { createContext, Script } from 'node:vm'

const box: { run: () => unknown; result: unknown } = { run: () => undefined, result: undefined }
const context = createContext(box)
const script = new Script('result = run()', { filename: 'policy-initialisation' })

/**
 * Runs on this thread and gives up after a wall-clock time, also inside WebAssembly: belt and braces over the fuel for code that
 * runs for the first time. Costs about 60 us: never for a request.
 * @throws what `run` throws; Error with code ERR_SCRIPT_EXECUTION_TIMEOUT when the time is over
 */
export function runWithin<T>(timeoutMs: number, run: () => T): T {
  box.run = run
  try {
    script.runInContext(context, { timeout: timeoutMs })
    return box.result as T
  } finally {
    box.run = () => undefined
    box.result = undefined
  }
}
