import { Json, JsonKind, parseJson } from './json'
import { appendBytesToFailure, appendToFailure, fail } from './status'

/**
 * The configuration, read and checked. In `pando_init`:
 *
 *     const settings = openSettings(address, byteLength)
 *     limit = settings.number('limit', 100, 1, 1000)
 *     return settings.done()
 *
 * `done` refuses the configuration when a setting is unknown, of the wrong type or out of its range, with a message that
 * names it: the version before goes on serving.
 */
@unmanaged
export class Settings {
  /** A number from `least` to `most`; `otherwise` when it is not set. */
  number(name: string, otherwise: f64, least: f64, most: f64): f64 {
    const found = this.find(name)
    if (!found.exists) return otherwise
    const value = found.number()
    if (found.kind != JsonKind.Number || !(value >= least && value <= most)) refuse(name, ' is not a number in its range')
    return value
  }

  boolean(name: string, otherwise: bool): bool {
    const found = this.find(name)
    if (!found.exists) return otherwise
    if (found.kind != JsonKind.Boolean) refuse(name, ' is not true or false')
    return found.boolean()
  }

  /** An object, or Missing. */
  object(name: string): Json {
    return this.typed(name, JsonKind.Object, ' is not an object')
  }

  list(name: string): Json {
    return this.typed(name, JsonKind.List, ' is not a list')
  }

  text(name: string): Json {
    return this.typed(name, JsonKind.String, ' is not a text')
  }

  /** Refuses the configuration for a reason of your own; the first one is told. */
  refuse(name: string, problem: string): void {
    refuse(name, problem)
  }

  /** The names behind the indexes: lists of texts. */
  get classes(): Json {
    return classes
  }

  get tenants(): Json {
    return tenants
  }

  get buckets(): Json {
    return buckets
  }

  /** What `pando_init` returns. */
  done(): i32 {
    if (isRefused) return -1
    for (let key = changetype<Json>(this).firstKey(); key.exists; key = key.nextKey()) {
      if (isKnown(key)) continue
      fail('there is no setting ')
      appendBytesToFailure(key.bytes, key.byteLength)
      return -1
    }
    return 0
  }

  private typed(name: string, kind: i32, problem: string): Json {
    const found = this.find(name)
    if (!found.exists || found.kind == kind) return found
    refuse(name, problem)
    return changetype<Json>(0)
  }

  private find(name: string): Json {
    if (known == 0) known = heap.alloc(mostSettings * sizeof<usize>())
    if (knownCount < mostSettings) {
      store<usize>(known + (<usize>knownCount << alignof<usize>()), changetype<usize>(name))
      knownCount += 1
    }
    return changetype<Json>(this).get(name)
  }
}

const mostSettings: i32 = 64
// Found in one go: each lookup goes over everything before it.
let classes: Json = changetype<Json>(0)
let tenants: Json = changetype<Json>(0)
let buckets: Json = changetype<Json>(0)
/** Addresses of the names that were asked for. */
let known: usize = 0
let knownCount: i32 = 0
let isRefused: bool = false

export function openSettings(address: usize, byteLength: i32): Settings {
  knownCount = 0
  isRefused = false
  const document = parseJson(address, byteLength)
  if (document.kind != JsonKind.Object) {
    isRefused = true
    fail('the configuration is not a JSON object')
  }
  let settings = changetype<Json>(0)
  classes = settings
  tenants = settings
  buckets = settings
  for (let key = document.firstKey(); key.exists; key = key.nextKey()) {
    if (key.equals('settings')) settings = key.value()
    else if (key.equals('classes')) classes = key.value()
    else if (key.equals('tenants')) tenants = key.value()
    else if (key.equals('buckets')) buckets = key.value()
  }
  return changetype<Settings>(settings)
}

function refuse(name: string, problem: string): void {
  if (isRefused) return
  isRefused = true
  fail(name)
  appendToFailure(problem)
}

function isKnown(key: Json): bool {
  for (let index = 0; index < knownCount; index++) {
    if (key.equals(changetype<string>(load<usize>(known + (<usize>index << alignof<usize>()))))) return true
  }
  return false
}
