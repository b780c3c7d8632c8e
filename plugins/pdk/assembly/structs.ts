// Written by plugins/abi/generate.ts from plugins/abi/idl.ts. Do not edit: see plugins/abi/README.md.

/** Value of the exported global `pando_abi`. */
export const ABI_VERSION: i32 = 65538

/** What `pando_wants` is asked about; 0 = with this configuration nothing is ever decided there. */
export namespace Hook {
  /** `select` */
  export const Select: i32 = 0
  /** `classify` */
  export const Classify: i32 = 1
  /** `admit` */
  export const Admit: i32 = 2
  /** `plan` */
  export const Plan: i32 = 3
  /** `resolve` */
  export const Resolve: i32 = 4
}

/** What a request does. */
export namespace RequestOperation {
  /** `read` */
  export const Read: u8 = 0
  /** `write` */
  export const Write: u8 = 1
  /** `delete` */
  export const Delete: u8 = 2
  /** `list` */
  export const List: u8 = 3
  /** `head` */
  export const Head: u8 = 4
  /** `copy` */
  export const Copy: u8 = 5
  /** `other` */
  export const Other: u8 = 6
}

/** A way to move frames. */
export namespace TransportName {
  /** `tcp` */
  export const Tcp: u8 = 0
  /** `rdma` */
  export const Rdma: u8 = 1
  /** `ipoib` */
  export const Ipoib: u8 = 2
  /** `shm` */
  export const Shm: u8 = 3
  /** `quic` */
  export const Quic: u8 = 4
}

/** What the prober says. */
export namespace TransportState {
  /** `up` */
  export const Up: u8 = 0
  /** `degraded` */
  export const Degraded: u8 = 1
  /** `down` */
  export const Down: u8 = 2
}

/** What a read waits for. */
export namespace Consistency {
  /** `strong` */
  export const Strong: u8 = 0
  /** `local` */
  export const Local: u8 = 1
}

/** What happens to a request at the door. */
export namespace Verdict {
  /** `admit` */
  export const Admit: u8 = 0
  /** `delay` */
  export const Delay: u8 = 1
  /** `shed` */
  export const Shed: u8 = 2
}

/** What becomes of two versions in conflict. */
export namespace Outcome {
  /** `first` */
  export const First: u8 = 0
  /** `second` */
  export const Second: u8 = 1
  /** `keep-both` */
  export const KeepBoth: u8 = 2
  /** `merge` */
  export const Merge: u8 = 3
}

/** The link that is decided for. */
@unmanaged
export class SelectInput {
  /** Whether fields are left out; `Status.AskWhole` asks for the same question with all of them. */
  get isBrief(): bool {
    return (this.flags & 1) != 0
  }

  /** minor version of this ABI that the host speaks */
  get structVersion(): u16 {
    return load<u16>(changetype<usize>(this), 0)
  }

  /** bytes from the start of the input to its first item */
  get headerLen(): u16 {
    return load<u16>(changetype<usize>(this), 2)
  }

  /** bytes from one item to the next; 0 = this hook has none */
  get itemLen(): u16 {
    return load<u16>(changetype<usize>(this), 4)
  }

  /** items */
  get itemCount(): u16 {
    return load<u16>(changetype<usize>(this), 6)
  }

  /** bit 0: a brief question, which leaves fields at 0 (since 1.1) */
  get flags(): u32 {
    return load<u32>(changetype<usize>(this), 8)
  }

  /** 32 random bits, to draw lots with; a replay has the same */
  get seed(): u32 {
    return load<u32>(changetype<usize>(this), 12)
  }

  /** wall clock, ms since the epoch */
  get nowMs(): f64 {
    return load<f64>(changetype<usize>(this), 16)
  }

  /** ms since the epoch; 0 = none */
  get deadlineMs(): f64 {
    return load<f64>(changetype<usize>(this), 24)
  }

  /** stable over the retries of one request */
  get requestHash(): u64 {
    return load<u64>(changetype<usize>(this), 32)
  }

  /** index into `tenants` of the configuration; 0 = none or unknown */
  get tenant(): u32 {
    return load<u32>(changetype<usize>(this), 40)
  }

  /** index into `buckets` of the configuration; 0 = none or unknown */
  get bucket(): u32 {
    return load<u32>(changetype<usize>(this), 44)
  }

  /** bytes from the start of the output to its first item */
  get outHeaderLen(): u16 {
    return load<u16>(changetype<usize>(this), 48)
  }

  /** bytes from one item of the output to the next; 0 = this hook has none */
  get outItemLen(): u16 {
    return load<u16>(changetype<usize>(this), 50)
  }

  /** what most of the traffic is; `other` = mixed */
  get operation(): u8 {
    return load<u8>(changetype<usize>(this), 64)
  }

  /** what its reads wait for */
  get consistency(): u8 {
    return load<u8>(changetype<usize>(this), 65)
  }

  /** the candidate in use; -1 = none yet */
  get currentIndex(): i32 {
    return load<i32>(changetype<usize>(this), 68)
  }

  /** of a typical body; -1 = not known */
  get byteLength(): f64 {
    return load<f64>(changetype<usize>(this), 72)
  }

  /** target of the latency; 0 = none */
  get sloMs(): f64 {
    return load<f64>(changetype<usize>(this), 80)
  }

  /** how long the current candidate has been in use; 0 without one */
  get currentForMs(): f64 {
    return load<f64>(changetype<usize>(this), 88)
  }

  /** How many candidates there are. */
  get count(): i32 {
    return <i32>this.itemCount
  }

  /** The transportCandidate at an index below `count`. */
  at(index: i32): TransportCandidate {
    return changetype<TransportCandidate>(changetype<usize>(this) + <usize>this.headerLen + <usize>index * <usize>this.itemLen)
  }
}

/** A transport that both ends have and a probe has reached. Measurements are of the last 10 s. */
@unmanaged
export class TransportCandidate {

  /** which */
  get transport(): u8 {
    return load<u8>(changetype<usize>(this), 0)
  }

  /** what the prober says */
  get state(): u8 {
    return load<u8>(changetype<usize>(this), 1)
  }

  /** 0 same host, 1 same rack, 2 same zone, 3 same region, 4 another region */
  get distance(): u8 {
    return load<u8>(changetype<usize>(this), 2)
  }

  /** round trip, median */
  get rttP50Ms(): f64 {
    return load<f64>(changetype<usize>(this), 8)
  }

  /** round trip, 99th percentile */
  get rttP99Ms(): f64 {
    return load<f64>(changetype<usize>(this), 16)
  }

  /** mean difference of neighbouring round trips */
  get jitterMs(): f64 {
    return load<f64>(changetype<usize>(this), 24)
  }

  /** share of probes lost, 0 to 1 */
  get loss(): f64 {
    return load<f64>(changetype<usize>(this), 32)
  }

  /** estimated bandwidth; 0 = not known */
  get bytesPerSecond(): f64 {
    return load<f64>(changetype<usize>(this), 40)
  }

  /** of traffic, in the unit of the configuration; 0 = free */
  get costPerGb(): f64 {
    return load<f64>(changetype<usize>(this), 48)
  }

  /** share of its capacity in use, 0 to 1 */
  get load(): f64 {
    return load<f64>(changetype<usize>(this), 56)
  }

  /** share of recent calls that succeeded, 0 to 1 */
  get health(): f64 {
    return load<f64>(changetype<usize>(this), 64)
  }

  /** requests */
  get inFlight(): f64 {
    return load<f64>(changetype<usize>(this), 72)
  }
}

/** The transport to use. */
@unmanaged
export class SelectDecision {

  /** into the candidates */
  get index(): i32 {
    return load<i32>(changetype<usize>(this), 0)
  }
  set index(value: i32) {
    store<i32>(changetype<usize>(this), value, 0)
  }

  /** what to use if that one breaks; -1 = none */
  get fallbackIndex(): i32 {
    return load<i32>(changetype<usize>(this), 4)
  }
  set fallbackIndex(value: i32) {
    store<i32>(changetype<usize>(this), value, 4)
  }

  /** streams */
  get parallel(): u32 {
    return load<u32>(changetype<usize>(this), 8)
  }
  set parallel(value: u32) {
    store<u32>(changetype<usize>(this), value, 8)
  }

  /** largest frame worth sending */
  get chunkBytes(): u32 {
    return load<u32>(changetype<usize>(this), 12)
  }
  set chunkBytes(value: u32) {
    store<u32>(changetype<usize>(this), value, 12)
  }

  /** the policy's own code, named in its manifest; 0 = no particular reason */
  get reason(): u32 {
    return load<u32>(changetype<usize>(this), 16)
  }
  set reason(value: u32) {
    store<u32>(changetype<usize>(this), value, 16)
  }
}

/** The request. */
@unmanaged
export class ClassifyInput {
  /** Whether fields are left out; `Status.AskWhole` asks for the same question with all of them. */
  get isBrief(): bool {
    return (this.flags & 1) != 0
  }

  /** minor version of this ABI that the host speaks */
  get structVersion(): u16 {
    return load<u16>(changetype<usize>(this), 0)
  }

  /** bytes from the start of the input to its first item */
  get headerLen(): u16 {
    return load<u16>(changetype<usize>(this), 2)
  }

  /** bytes from one item to the next; 0 = this hook has none */
  get itemLen(): u16 {
    return load<u16>(changetype<usize>(this), 4)
  }

  /** items */
  get itemCount(): u16 {
    return load<u16>(changetype<usize>(this), 6)
  }

  /** bit 0: a brief question, which leaves fields at 0 (since 1.1) */
  get flags(): u32 {
    return load<u32>(changetype<usize>(this), 8)
  }

  /** 32 random bits, to draw lots with; a replay has the same */
  get seed(): u32 {
    return load<u32>(changetype<usize>(this), 12)
  }

  /** wall clock, ms since the epoch */
  get nowMs(): f64 {
    return load<f64>(changetype<usize>(this), 16)
  }

  /** ms since the epoch; 0 = none */
  get deadlineMs(): f64 {
    return load<f64>(changetype<usize>(this), 24)
  }

  /** stable over the retries of one request */
  get requestHash(): u64 {
    return load<u64>(changetype<usize>(this), 32)
  }

  /** index into `tenants` of the configuration; 0 = none or unknown */
  get tenant(): u32 {
    return load<u32>(changetype<usize>(this), 40)
  }

  /** index into `buckets` of the configuration; 0 = none or unknown */
  get bucket(): u32 {
    return load<u32>(changetype<usize>(this), 44)
  }

  /** bytes from the start of the output to its first item */
  get outHeaderLen(): u16 {
    return load<u16>(changetype<usize>(this), 48)
  }

  /** bytes from one item of the output to the next; 0 = this hook has none */
  get outItemLen(): u16 {
    return load<u16>(changetype<usize>(this), 50)
  }

  /** what it does */
  get operation(): u8 {
    return load<u8>(changetype<usize>(this), 64)
  }

  /** attributes that are set */
  get attributeCount(): u8 {
    return load<u8>(changetype<usize>(this), 65)
  }

  /** bytes of keyPrefix that are set */
  get keyLength(): u8 {
    return load<u8>(changetype<usize>(this), 66)
  }

  /** 1 = the key goes on behind the prefix */
  get keyIsLonger(): u8 {
    return load<u8>(changetype<usize>(this), 67)
  }

  /** of the body; -1 = not known */
  get byteLength(): f64 {
    return load<f64>(changetype<usize>(this), 72)
  }

  /** FNV-1a 32 of `name=value` of the attributes that the configuration names; `index` below `attributeCount`. */
  attribute(index: i32): u32 {
    return load<u32>(changetype<usize>(this) + (<usize>index << 2), 80)
  }

  /** Address of beginning of the key, UTF-8, whole characters; `keyLength` bytes. */
  get keyPrefix(): usize {
    return changetype<usize>(this) + 112
  }
}

/** The class. */
@unmanaged
export class ClassifyDecision {

  /** index into `classes` of the configuration */
  get classIndex(): u16 {
    return load<u16>(changetype<usize>(this), 0)
  }
  set classIndex(value: u16) {
    store<u16>(changetype<usize>(this), value, 0)
  }

  /** 0 (last) to 255 (first), within the class */
  get priority(): u8 {
    return load<u8>(changetype<usize>(this), 2)
  }
  set priority(value: u8) {
    store<u8>(changetype<usize>(this), value, 2)
  }

  /** the policy's own code, named in its manifest; 0 = no particular reason */
  get reason(): u32 {
    return load<u32>(changetype<usize>(this), 4)
  }
  set reason(value: u32) {
    store<u32>(changetype<usize>(this), value, 4)
  }
}

/** The request and the state of what it wants to use. */
@unmanaged
export class AdmitInput {
  /** Whether fields are left out; `Status.AskWhole` asks for the same question with all of them. */
  get isBrief(): bool {
    return (this.flags & 1) != 0
  }

  /** minor version of this ABI that the host speaks */
  get structVersion(): u16 {
    return load<u16>(changetype<usize>(this), 0)
  }

  /** bytes from the start of the input to its first item */
  get headerLen(): u16 {
    return load<u16>(changetype<usize>(this), 2)
  }

  /** bytes from one item to the next; 0 = this hook has none */
  get itemLen(): u16 {
    return load<u16>(changetype<usize>(this), 4)
  }

  /** items */
  get itemCount(): u16 {
    return load<u16>(changetype<usize>(this), 6)
  }

  /** bit 0: a brief question, which leaves fields at 0 (since 1.1) */
  get flags(): u32 {
    return load<u32>(changetype<usize>(this), 8)
  }

  /** 32 random bits, to draw lots with; a replay has the same */
  get seed(): u32 {
    return load<u32>(changetype<usize>(this), 12)
  }

  /** wall clock, ms since the epoch */
  get nowMs(): f64 {
    return load<f64>(changetype<usize>(this), 16)
  }

  /** ms since the epoch; 0 = none */
  get deadlineMs(): f64 {
    return load<f64>(changetype<usize>(this), 24)
  }

  /** stable over the retries of one request */
  get requestHash(): u64 {
    return load<u64>(changetype<usize>(this), 32)
  }

  /** index into `tenants` of the configuration; 0 = none or unknown */
  get tenant(): u32 {
    return load<u32>(changetype<usize>(this), 40)
  }

  /** index into `buckets` of the configuration; 0 = none or unknown */
  get bucket(): u32 {
    return load<u32>(changetype<usize>(this), 44)
  }

  /** bytes from the start of the output to its first item */
  get outHeaderLen(): u16 {
    return load<u16>(changetype<usize>(this), 48)
  }

  /** bytes from one item of the output to the next; 0 = this hook has none */
  get outItemLen(): u16 {
    return load<u16>(changetype<usize>(this), 50)
  }

  /** what it does */
  get operation(): u8 {
    return load<u8>(changetype<usize>(this), 64)
  }

  /** index into `classes` of the configuration */
  get classIndex(): u16 {
    return load<u16>(changetype<usize>(this), 66)
  }

  /** of the body; -1 = not known */
  get byteLength(): f64 {
    return load<f64>(changetype<usize>(this), 72)
  }

  /** left of the tightest budget that applies, in requests, may be below 0; 1e9 = no budget */
  get tokens(): f64 {
    return load<f64>(changetype<usize>(this), 80)
  }

  /** until that budget has a token again; 0 = it has one */
  get tokenWaitMs(): f64 {
    return load<f64>(changetype<usize>(this), 88)
  }

  /** requests of the class that wait */
  get queueDepth(): f64 {
    return load<f64>(changetype<usize>(this), 96)
  }

  /** requests of the class under way */
  get inFlight(): f64 {
    return load<f64>(changetype<usize>(this), 104)
  }

  /** requests that may be under way at once */
  get concurrencyLimit(): f64 {
    return load<f64>(changetype<usize>(this), 112)
  }

  /** latency of the class over the last seconds, median */
  get p50Ms(): f64 {
    return load<f64>(changetype<usize>(this), 120)
  }

  /** 99th percentile of it */
  get p99Ms(): f64 {
    return load<f64>(changetype<usize>(this), 128)
  }

  /** target of the class; 0 = none */
  get sloMs(): f64 {
    return load<f64>(changetype<usize>(this), 136)
  }

  /** of the concurrency limit, 0 to 1 */
  get utilisation(): f64 {
    return load<f64>(changetype<usize>(this), 144)
  }
}

/** The verdict. */
@unmanaged
export class AdmitDecision {

  /** what happens */
  get verdict(): u8 {
    return load<u8>(changetype<usize>(this), 0)
  }
  set verdict(value: u8) {
    store<u8>(changetype<usize>(this), value, 0)
  }

  /** the policy's own code, named in its manifest; 0 = no particular reason */
  get reason(): u32 {
    return load<u32>(changetype<usize>(this), 4)
  }
  set reason(value: u32) {
    store<u32>(changetype<usize>(this), value, 4)
  }

  /** how long to wait before asking again (delay), or what Retry-After says (shed) */
  get delayMs(): f64 {
    return load<f64>(changetype<usize>(this), 8)
  }
  set delayMs(value: f64) {
    store<f64>(changetype<usize>(this), value, 8)
  }

  /** What `pando_admit_brief` returns: the decision as a number where it fits into one, which most do. */
  @inline
  answer(verdict: u8, reason: u32, delayMs: f64): i32 {
    if (<u32>verdict >= 3 || <u32>reason >= 64) {
      this.verdict = verdict
      this.reason = reason
      this.delayMs = delayMs
      return 0
    }
    const packed: i32 = 1073741824 | <i32>reason | (<i32>verdict << 7)
    if (delayMs == 0) return packed
    this.delayMs = delayMs
    return packed | 64
  }

  /** Writes the decision of such an answer here, for the hook itself; returns the hook's answer. */
  unpack(answer: i32): i32 {
    if (answer < 1073741824) return answer
    this.reason = <u32>(answer >> 0 & 63)
    if ((answer >> 6 & 1) == 0) this.delayMs = 0
    this.verdict = <u8>(answer >> 7 & 3)
    return 0
  }
}

/** Nothing beside the header. */
@unmanaged
export class PlanInput {
  /** Whether fields are left out; `Status.AskWhole` asks for the same question with all of them. */
  get isBrief(): bool {
    return (this.flags & 1) != 0
  }

  /** minor version of this ABI that the host speaks */
  get structVersion(): u16 {
    return load<u16>(changetype<usize>(this), 0)
  }

  /** bytes from the start of the input to its first item */
  get headerLen(): u16 {
    return load<u16>(changetype<usize>(this), 2)
  }

  /** bytes from one item to the next; 0 = this hook has none */
  get itemLen(): u16 {
    return load<u16>(changetype<usize>(this), 4)
  }

  /** items */
  get itemCount(): u16 {
    return load<u16>(changetype<usize>(this), 6)
  }

  /** bit 0: a brief question, which leaves fields at 0 (since 1.1) */
  get flags(): u32 {
    return load<u32>(changetype<usize>(this), 8)
  }

  /** 32 random bits, to draw lots with; a replay has the same */
  get seed(): u32 {
    return load<u32>(changetype<usize>(this), 12)
  }

  /** wall clock, ms since the epoch */
  get nowMs(): f64 {
    return load<f64>(changetype<usize>(this), 16)
  }

  /** ms since the epoch; 0 = none */
  get deadlineMs(): f64 {
    return load<f64>(changetype<usize>(this), 24)
  }

  /** stable over the retries of one request */
  get requestHash(): u64 {
    return load<u64>(changetype<usize>(this), 32)
  }

  /** index into `tenants` of the configuration; 0 = none or unknown */
  get tenant(): u32 {
    return load<u32>(changetype<usize>(this), 40)
  }

  /** index into `buckets` of the configuration; 0 = none or unknown */
  get bucket(): u32 {
    return load<u32>(changetype<usize>(this), 44)
  }

  /** bytes from the start of the output to its first item */
  get outHeaderLen(): u16 {
    return load<u16>(changetype<usize>(this), 48)
  }

  /** bytes from one item of the output to the next; 0 = this hook has none */
  get outItemLen(): u16 {
    return load<u16>(changetype<usize>(this), 50)
  }

  /** How many classes there are. */
  get count(): i32 {
    return <i32>this.itemCount
  }

  /** The planClass at an index below `count`. */
  at(index: i32): PlanClass {
    return changetype<PlanClass>(changetype<usize>(this) + <usize>this.headerLen + <usize>index * <usize>this.itemLen)
  }
}

/** A class, what it did in the last tick, and what the configuration wants for it. */
@unmanaged
export class PlanClass {

  /** index into `classes` of the configuration */
  get classIndex(): u16 {
    return load<u16>(changetype<usize>(this), 0)
  }

  /** requests that wait */
  get backlogRequests(): f64 {
    return load<f64>(changetype<usize>(this), 8)
  }

  /** bytes of their bodies */
  get backlogBytes(): f64 {
    return load<f64>(changetype<usize>(this), 16)
  }

  /** served */
  get requestsPerSecond(): f64 {
    return load<f64>(changetype<usize>(this), 24)
  }

  /** served */
  get bytesPerSecond(): f64 {
    return load<f64>(changetype<usize>(this), 32)
  }

  /** latency, 99th percentile */
  get p99Ms(): f64 {
    return load<f64>(changetype<usize>(this), 40)
  }

  /** target of it; 0 = none */
  get sloMs(): f64 {
    return load<f64>(changetype<usize>(this), 48)
  }

  /** as configured */
  get weight(): f64 {
    return load<f64>(changetype<usize>(this), 56)
  }

  /** as configured, cost units a second */
  get reservation(): f64 {
    return load<f64>(changetype<usize>(this), 64)
  }

  /** as configured, cost units a second; 0 = none */
  get limit(): f64 {
    return load<f64>(changetype<usize>(this), 72)
  }
}

/** In front of the plan. */
@unmanaged
export class PlanDecision {

  /** the policy's own code, named in its manifest; 0 = no particular reason */
  get reason(): u32 {
    return load<u32>(changetype<usize>(this), 0)
  }
  set reason(value: u32) {
    store<u32>(changetype<usize>(this), value, 0)
  }

  /** The PlannedClass for the item of the input at the same index. */
  at(input: PlanInput, index: i32): PlannedClass {
    return changetype<PlannedClass>(changetype<usize>(this) + <usize>input.outHeaderLen + <usize>index * <usize>input.outItemLen)
  }
}

/** What the schedulers enforce (mClock: Gulati et al., OSDI 2010). One unit is one request of at most 4 KiB. */
@unmanaged
export class PlannedClass {

  /** share of what reservations leave; less than 0.001 counts as 0.001 */
  get weight(): f64 {
    return load<f64>(changetype<usize>(this), 0)
  }
  set weight(value: f64) {
    store<f64>(changetype<usize>(this), value, 0)
  }

  /** units a second that the class gets in any case; 0 = none, less than 0.001 counts as 0.001 */
  get reservation(): f64 {
    return load<f64>(changetype<usize>(this), 8)
  }
  set reservation(value: f64) {
    store<f64>(changetype<usize>(this), value, 8)
  }

  /** units a second that it never exceeds; 0 = no limit, less than 0.001 counts as 0.001 */
  get limit(): f64 {
    return load<f64>(changetype<usize>(this), 16)
  }
  set limit(value: f64) {
    store<f64>(changetype<usize>(this), value, 16)
  }

  /** units that may be taken at once after idleness */
  get burst(): f64 {
    return load<f64>(changetype<usize>(this), 24)
  }
  set burst(value: f64) {
    store<f64>(changetype<usize>(this), value, 24)
  }
}

/** Nothing beside the header; the two versions are the items. */
@unmanaged
export class ResolveInput {
  /** Whether fields are left out; `Status.AskWhole` asks for the same question with all of them. */
  get isBrief(): bool {
    return (this.flags & 1) != 0
  }

  /** minor version of this ABI that the host speaks */
  get structVersion(): u16 {
    return load<u16>(changetype<usize>(this), 0)
  }

  /** bytes from the start of the input to its first item */
  get headerLen(): u16 {
    return load<u16>(changetype<usize>(this), 2)
  }

  /** bytes from one item to the next; 0 = this hook has none */
  get itemLen(): u16 {
    return load<u16>(changetype<usize>(this), 4)
  }

  /** items */
  get itemCount(): u16 {
    return load<u16>(changetype<usize>(this), 6)
  }

  /** bit 0: a brief question, which leaves fields at 0 (since 1.1) */
  get flags(): u32 {
    return load<u32>(changetype<usize>(this), 8)
  }

  /** 32 random bits, to draw lots with; a replay has the same */
  get seed(): u32 {
    return load<u32>(changetype<usize>(this), 12)
  }

  /** wall clock, ms since the epoch */
  get nowMs(): f64 {
    return load<f64>(changetype<usize>(this), 16)
  }

  /** ms since the epoch; 0 = none */
  get deadlineMs(): f64 {
    return load<f64>(changetype<usize>(this), 24)
  }

  /** stable over the retries of one request */
  get requestHash(): u64 {
    return load<u64>(changetype<usize>(this), 32)
  }

  /** index into `tenants` of the configuration; 0 = none or unknown */
  get tenant(): u32 {
    return load<u32>(changetype<usize>(this), 40)
  }

  /** index into `buckets` of the configuration; 0 = none or unknown */
  get bucket(): u32 {
    return load<u32>(changetype<usize>(this), 44)
  }

  /** bytes from the start of the output to its first item */
  get outHeaderLen(): u16 {
    return load<u16>(changetype<usize>(this), 48)
  }

  /** bytes from one item of the output to the next; 0 = this hook has none */
  get outItemLen(): u16 {
    return load<u16>(changetype<usize>(this), 50)
  }

  /** How many versions there are. */
  get count(): i32 {
    return <i32>this.itemCount
  }

  /** The conflictVersion at an index below `count`. */
  at(index: i32): ConflictVersion {
    return changetype<ConflictVersion>(changetype<usize>(this) + <usize>this.headerLen + <usize>index * <usize>this.itemLen)
  }
}

/** One side of the conflict. */
@unmanaged
export class ConflictVersion {

  /** id of the region that wrote it */
  get region(): u32 {
    return load<u32>(changetype<usize>(this), 0)
  }

  /** 1 = it deletes the object */
  get isDeleteMarker(): bool {
    return load<u32>(changetype<usize>(this), 4) != 0
  }

  /** hybrid logical clock, as the catalog orders versions */
  get hlc(): u64 {
    return load<u64>(changetype<usize>(this), 8)
  }

  /** of the object */
  get byteLength(): f64 {
    return load<f64>(changetype<usize>(this), 16)
  }

  /** its ETag: its address. */
  etag(input: ResolveInput): usize {
    return changetype<usize>(input) + <usize>load<u32>(changetype<usize>(this), 24)
  }

  /** Bytes of it. */
  get etagLength(): i32 {
    return load<i32>(changetype<usize>(this), 28)
  }

  /** user metadata as JSON, UTF-8: its address. */
  metadata(input: ResolveInput): usize {
    return changetype<usize>(input) + <usize>load<u32>(changetype<usize>(this), 32)
  }

  /** Bytes of it. */
  get metadataLength(): i32 {
    return load<i32>(changetype<usize>(this), 36)
  }
}

/** The outcome. */
@unmanaged
export class ResolveDecision {

  /** what becomes of them */
  get outcome(): u8 {
    return load<u8>(changetype<usize>(this), 0)
  }
  set outcome(value: u8) {
    store<u8>(changetype<usize>(this), value, 0)
  }

  /** the policy's own code, named in its manifest; 0 = no particular reason */
  get reason(): u32 {
    return load<u32>(changetype<usize>(this), 4)
  }
  set reason(value: u32) {
    store<u32>(changetype<usize>(this), value, 4)
  }

  /** with `merge`: the metadata of the result as JSON, UTF-8, behind this struct: where it begins, from this struct on, and how long it is. */
  setMetadata(offset: u32, byteLength: u32): void {
    store<u32>(changetype<usize>(this), offset, 8)
    store<u32>(changetype<usize>(this), byteLength, 12)
  }

  /** What `pando_resolve_brief` returns: the decision as a number where it fits into one, which most do. */
  @inline
  answer(outcome: u8, reason: u32): i32 {
    if (<u32>outcome >= 3 || <u32>reason >= 64) {
      this.outcome = outcome
      this.reason = reason
      return 0
    }
    const packed: i32 = 1073741824 | <i32>reason | (<i32>outcome << 6)
    return packed
  }

  /** Writes the decision of such an answer here, for the hook itself; returns the hook's answer. */
  unpack(answer: i32): i32 {
    if (answer < 1073741824) return answer
    this.reason = <u32>(answer >> 0 & 63)
    this.outcome = <u8>(answer >> 6 & 3)
    return 0
  }
}
