/**
 * Two regions changed one key: the later change wins, by the hybrid logical clock that orders all changes. When the clocks
 * are equal, the lower region id wins, then the greater ETag: both sides decide alike, whatever the order they are told in.
 */
import { ConflictVersion, openSettings, Outcome, ResolveDecision, ResolveInput, Status } from '../../../pdk/assembly'

export { pando_abi, pando_alloc, pando_error_len, pando_error_ptr } from '../../../pdk/assembly'

/** Written to `reason`; the manifest says them in words. */
namespace Reason {
  export const Later: u32 = 1
  export const Region: u32 = 2
  export const Etag: u32 = 3
}

export function pando_init(config: usize, byteLength: i32): i32 {
  return openSettings(config, byteLength).done()
}

export function pando_resolve_brief(decision: ResolveDecision, region: u32, hlc: u64, otherRegion: u32, otherHlc: u64): i32 {
  if (hlc != otherHlc) return decide(decision, hlc > otherHlc, Reason.Later)
  if (region != otherRegion) return decide(decision, region < otherRegion, Reason.Region)
  // Rare, so the ETags are copied for this answer only.
  return Status.AskWhole
}

/** With the ETags, or for a host before 1.2. */
export function pando_resolve(input: ResolveInput, _inputBytes: i32, decision: ResolveDecision, _outputBytes: i32): i32 {
  const first = input.at(0)
  const second = input.at(1)
  const answered = pando_resolve_brief(decision, first.region, first.hlc, second.region, second.hlc)
  if (answered != Status.AskWhole || input.isBrief) return decision.unpack(answered)
  return decision.unpack(decide(decision, compareEtags(input, first, second) >= 0, Reason.Etag))
}

function compareEtags(input: ResolveInput, first: ConflictVersion, second: ConflictVersion): i32 {
  const shared = min(first.etagLength, second.etagLength)
  const difference = memory.compare(first.etag(input), second.etag(input), <usize>shared)
  return difference != 0 ? difference : first.etagLength - second.etagLength
}

@inline
function decide(decision: ResolveDecision, firstWins: bool, reason: u32): i32 {
  return decision.answer(firstWins ? Outcome.First : Outcome.Second, reason)
}
