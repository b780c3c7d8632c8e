/**
 * Two regions wrote one key without having seen each other: the larger object lasts, and an object lasts against a delete. It abstains when
 * they are as large as each other, so that the next policy decides: `failover-latest`, unless another one is configured.
 */
import { openSettings, Outcome, ResolveDecision, ResolveInput, Status } from '../../../assembly'

export { pando_abi, pando_alloc, pando_error_len, pando_error_ptr } from '../../../assembly'

namespace Reason {
  export const Delete: u32 = 1
  export const Larger: u32 = 2
}

export function pando_init(config: usize, byteLength: i32): i32 {
  return openSettings(config, byteLength).done()
}

export function pando_resolve(input: ResolveInput, _inputBytes: i32, decision: ResolveDecision, _outputBytes: i32): i32 {
  const first = input.at(0)
  const second = input.at(1)
  if (first.isDeleteMarker != second.isDeleteMarker) {
    decision.outcome = second.isDeleteMarker ? Outcome.First : Outcome.Second
    decision.reason = Reason.Delete
    return Status.Decided
  }
  if (first.byteLength == second.byteLength) return Status.Abstain
  decision.outcome = first.byteLength > second.byteLength ? Outcome.First : Outcome.Second
  decision.reason = Reason.Larger
  return Status.Decided
}
