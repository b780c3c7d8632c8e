import type { PolicyFailure, PolicyStage } from '../../core/contract/policy-deployment.ts'

/** A package or a version that did not reach a stage. What serves goes on serving, while its names are those of now. */
export class PolicyLoadFailure extends Error {
  override readonly name = 'PolicyLoadFailure'
  readonly failure: PolicyFailure

  constructor(stage: PolicyStage, reason: string, options?: ErrorOptions) {
    super(`not ${stage}: ${reason}`, options)
    this.failure = { stage, reason }
  }

  /** Runs a stage; what it throws becomes the failure of that stage. */
  static async during<T>(stage: PolicyStage, run: () => T | Promise<T>): Promise<T> {
    try {
      return await run()
    } catch (reason) {
      throw PolicyLoadFailure.from(reason, stage)
    }
  }

  static from(reason: unknown, stage: PolicyStage): PolicyLoadFailure {
    if (reason instanceof PolicyLoadFailure) return reason
    return new PolicyLoadFailure(stage, reason instanceof Error ? reason.message : String(reason), {
      cause: reason,
    })
  }
}
