import type { Clock } from '../../core/contract/clock.ts'
import type { GradualActivation } from '../../core/contract/policy-deployment.ts'
import type { PolicyVersion } from './policy-version.ts'

/** Between two looks at a version that is being tried. */
const pollMs = 50

export interface RolloutContext {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** The version as it serves now; another object after a change of the names. */
  readonly version: () => PolicyVersion | undefined
  /** Its share in the deployment; undefined = it is not in it any more. */
  readonly percent: () => number | undefined
  /** Gives the version that share and resolves when this node serves so. */
  readonly step: (percent: number) => Promise<unknown>
  readonly giveUp: (reason: string) => Promise<unknown>
}

/**
 * Shadow, canary, all: the next step when the version was asked often enough and still stands. Ends without a word when its health
 * or somebody else took it back: then it is not this rollout's any more. The first step has been made.
 */
export async function rollOut(gradual: GradualActivation, context: RolloutContext): Promise<void> {
  const { clock, signal, step } = context
  const isCanary = gradual.canaryPercent > 0
  const trials = [
    ...(gradual.shadowCalls > 0 ? [{ percent: 0, calls: gradual.shadowCalls }] : []),
    ...(isCanary ? [{ percent: gradual.canaryPercent, calls: gradual.canaryCalls }] : []),
  ]
  for (const [at, { percent, calls }] of trials.entries()) {
    if (at > 0) await step(percent)
    const startMs = clock.monotonic()
    const startCalls = callsOf(context.version())
    for (;;) {
      const version = context.version()
      if (version === undefined || version.tripped !== undefined || context.percent() !== percent) return
      const done = callsOf(version) - startCalls
      if (done >= calls) break
      if (clock.monotonic() - startMs >= gradual.stepTimeoutMs) {
        await context.giveUp(`${done} of ${calls} calls at ${percent} % within ${gradual.stepTimeoutMs} ms`)
        return
      }
      await clock.sleep(pollMs, signal)
    }
  }
  await step(100)
}

function callsOf(version: PolicyVersion | undefined): number {
  if (version === undefined) return 0
  return Object.values(version.runners).reduce((sum, { counters }) => sum + counters.calls, 0)
}
