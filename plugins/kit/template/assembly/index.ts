/**
 * Nightly backups stay out of the way.
 *
 * classify: what a backup robot writes is bulk, whatever its size; so is every large upload.
 * admit: while the machine is busier than `busyFrom`, backups wait a moment; everybody else is left to the next policy.
 *
 * A policy is a pure function of its settings and its input: no clock, no randomness but `input.seed`, and nothing that is
 * remembered from call to call. Nothing here allocates, as every request asks.
 */
import {
  AdmitDecision,
  AdmitInput,
  ClassifyDecision,
  ClassifyInput,
  openSettings,
  RequestOperation,
  startsWith,
  Status,
  Verdict,
} from '../pdk/assembly'

// What every policy exports beside its hooks.
export { pando_abi, pando_alloc, pando_error_len, pando_error_ptr } from '../pdk/assembly'

/** Codes for `reason`; policy.json says them in words, which `pando policy explain` shows. */
namespace Reason {
  export const Backup: u32 = 1
  export const LargeBody: u32 = 2
  export const BackupsWait: u32 = 3
}

let bulkBytes: f64 = 16777216
let busyFrom: f64 = 0.7
let waitMs: f64 = 250
let bulk: i32 = -1

/** Reads the settings. What is unknown or out of range is refused with a message, and the version before goes on serving. */
export function pando_init(config: usize, byteLength: i32): i32 {
  const settings = openSettings(config, byteLength)
  bulkBytes = settings.number('bulkBytes', 16777216, 1, 1e15)
  busyFrom = settings.number('busyFrom', 0.7, 0, 1)
  waitMs = settings.number('waitMs', 250, 1, 60000)
  bulk = settings.classes.indexOfText('bulk')
  return settings.done()
}

export function pando_classify(input: ClassifyInput, _inputBytes: i32, decision: ClassifyDecision, _outputBytes: i32): i32 {
  // A region may have no such class; then this policy has nothing to say.
  if (bulk < 0) return Status.Abstain
  const isWrite = input.operation == RequestOperation.Write
  const isBackup = isWrite && startsWith(input.keyPrefix, input.keyLength, 'backup/')
  if (!isBackup && input.byteLength < bulkBytes) return Status.Abstain
  decision.classIndex = <u16>bulk
  decision.priority = isBackup ? 32 : 64
  decision.reason = isBackup ? Reason.Backup : Reason.LargeBody
  return Status.Decided
}

export function pando_admit(input: AdmitInput, _inputBytes: i32, decision: AdmitDecision, _outputBytes: i32): i32 {
  if (<i32>input.classIndex != bulk || input.utilisation < busyFrom) return Status.Abstain
  decision.verdict = Verdict.Delay
  // The fuller, the longer.
  decision.delayMs = waitMs * (1 + (input.utilisation - busyFrom) * 10)
  decision.reason = Reason.BackupsWait
  return Status.Decided
}
