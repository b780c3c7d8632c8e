/**
 * Caps for tenants: how large a body, how full the machine and how long the queue may be for their requests to get in, and
 * whether they may write. Whoever keeps to the caps is none of this policy's business: it abstains and the next one decides.
 *
 *     {"default": {"maxBytes": 1e9}, "tenants": {"acme": {"maxUtilisation": 0.5, "readOnly": true}}}
 */
import { AdmitDecision, AdmitInput, fnv1a32, Hook, Json, JsonKind, openSettings, RequestOperation, Settings, Status, Verdict } from '../../../pdk/assembly'

export { pando_abi, pando_alloc, pando_error_len, pando_error_ptr } from '../../../pdk/assembly'

/** Written to `reason`; the manifest says them in words. */
namespace Reason {
  export const TooLarge: u32 = 1
  export const MachineBusy: u32 = 2
  export const QueueLong: u32 = 3
  export const ReadOnly: u32 = 4
}

/** One for each tenant; 0 is everybody who is not named. */
@unmanaged
class Caps {
  maxBytes: f64
  maxUtilisation: f64
  maxQueue: f64
  readOnly: f64
}

let all: usize = 0
let count: i32 = 0
let retryAfterMs: f64 = 1000
/** Whether there is a cap at all. */
let isCapped = false

function capsOf(index: i32): Caps {
  return changetype<Caps>(all + <usize>index * offsetof<Caps>())
}

export function pando_init(config: usize, byteLength: i32): i32 {
  const settings = openSettings(config, byteLength)
  retryAfterMs = settings.number('retryAfterMs', 1000, 0, 3600000)
  const tenants = settings.tenants
  count = max(1, tenants.count())
  all = heap.alloc(<usize>count * offsetof<Caps>())
  const everybody = capsOf(0)
  everybody.maxBytes = Infinity
  everybody.maxUtilisation = Infinity
  everybody.maxQueue = Infinity
  everybody.readOnly = 0
  readCaps(settings, 'default', settings.object('default'), everybody)
  for (let index = 1; index < count; index++) memory.copy(changetype<usize>(capsOf(index)), all, offsetof<Caps>())
  readTenants(settings, tenants, settings.object('tenants'))
  return settings.done()
}

/**
 * Finds each named tenant's index through a table of hashes: comparing every name with every other would cost more fuel than
 * `pando_init` has. A tenant that the host does not know has no requests that would be told apart, so it is left out.
 */
function readTenants(settings: Settings, tenants: Json, named: Json): void {
  let slots: u32 = 16
  while (slots < <u32>count * 2) slots <<= 1
  const table = heap.alloc(<usize>slots * 8)
  memory.fill(table, 0, <usize>slots * 8)
  let index = 0
  for (let tenant = tenants.first(); tenant.exists; tenant = tenant.next()) {
    let slot = slotOf(tenant, slots)
    while (load<u32>(table + <usize>slot * 8) != 0) slot = (slot + 1) & (slots - 1)
    store<u32>(table + <usize>slot * 8, <u32>changetype<usize>(tenant))
    store<i32>(table + <usize>slot * 8, index, 4)
    index += 1
  }
  for (let key = named.firstKey(); key.exists; key = key.nextKey()) {
    let slot = slotOf(key, slots)
    while (load<u32>(table + <usize>slot * 8) != 0) {
      if (changetype<Json>(<usize>load<u32>(table + <usize>slot * 8)).sameAs(key)) {
        readCaps(settings, 'tenants', key.value(), capsOf(load<i32>(table + <usize>slot * 8, 4)))
        break
      }
      slot = (slot + 1) & (slots - 1)
    }
  }
}

function slotOf(name: Json, slots: u32): u32 {
  return fnv1a32(name.bytes, name.byteLength) & (slots - 1)
}

function readCaps(settings: Settings, where: string, from: Json, into: Caps): void {
  if (!from.exists) return
  if (from.kind != JsonKind.Object) settings.refuse(where, ' holds something else than an object of caps')
  for (let key = from.firstKey(); key.exists; key = key.nextKey()) {
    const value = key.value()
    isCapped = true
    if (key.equals('readOnly') && value.kind == JsonKind.Boolean) into.readOnly = value.boolean() ? 1 : 0
    else if (value.kind != JsonKind.Number || value.number() < 0) settings.refuse(where, ' holds a cap that is not a number from 0 on')
    else if (key.equals('maxBytes')) into.maxBytes = value.number()
    else if (key.equals('maxUtilisation')) into.maxUtilisation = value.number()
    else if (key.equals('maxQueue')) into.maxQueue = value.number()
    else settings.refuse(where, ' holds a cap that there is not: maxBytes, maxUtilisation, maxQueue, readOnly')
  }
}

/** Without a cap it abstains from everything: no request need ask it. */
export function pando_wants(hook: i32): i32 {
  return hook == Hook.Admit && !isCapped ? 0 : 1
}

export function pando_admit(input: AdmitInput, _inputBytes: i32, decision: AdmitDecision, _outputBytes: i32): i32 {
  const caps = capsOf(input.tenant < <u32>count ? <i32>input.tenant : 0)
  const operation = input.operation
  const changes = operation == RequestOperation.Write || operation == RequestOperation.Delete || operation == RequestOperation.Copy
  if (caps.readOnly != 0 && changes) return shed(decision, Reason.ReadOnly)
  if (input.byteLength > caps.maxBytes) return shed(decision, Reason.TooLarge)
  if (input.utilisation > caps.maxUtilisation) return shed(decision, Reason.MachineBusy)
  if (input.queueDepth > caps.maxQueue) return shed(decision, Reason.QueueLong)
  return Status.Abstain
}

function shed(decision: AdmitDecision, reason: u32): i32 {
  decision.verdict = Verdict.Shed
  decision.delayMs = retryAfterMs
  decision.reason = reason
  return Status.Decided
}
