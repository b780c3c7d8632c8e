import type { AdmissionRequest } from '../contract/admission.ts'
import type { Environment } from '../contract/clock.ts'
import type { AdmitInput, ClassifyInput, RequestOperation } from '../contract/policy.ts'
import type { PolicyTables } from '../contract/qos.ts'

/**
 * What policies are shown of a request. One object is used for all requests, since inputs are read during the call only;
 * what costs something to compute is computed when it is asked for.
 */
export class RequestFacts implements ClassifyInput, AdmitInput {
  nowMs = 0
  readonly deadlineMs = 0
  seed = 0
  tenant = 0
  bucket = 0
  operation: RequestOperation = 'other'
  byteLength = 0
  key = ''
  /** As many as the configuration names: what there is not is not handed over either. */
  attributes = new Uint32Array(0)
  classIndex = 0
  tokens = 0
  tokenWaitMs = 0
  queueDepth = 0
  inFlight = 0
  concurrencyLimit = 0
  p50Ms = 0
  p99Ms = 0
  sloMs = 0
  utilisation = 0
  readonly #environment: Environment
  readonly #random = new Uint32Array(256)
  #drawn = 256
  #tenants = new Map<string, number>()
  #buckets = new Map<string, number>()
  #attributeNames: readonly string[] = []
  #request: AdmissionRequest | undefined
  #requestHash: bigint | undefined
  #high = 0
  #low = 0
  #hashed = 0

  constructor(environment: Environment) {
    this.#environment = environment
  }

  /** The indexes of these names from now on. */
  adopt(tables: PolicyTables): void {
    this.#tenants = new Map(tables.tenants.map((name, index) => [name, index]))
    this.#buckets = new Map(tables.buckets.map((name, index) => [name, index]))
  }

  showAttributes(attributes: readonly string[]): void {
    this.#attributeNames = attributes.slice(0, maxAttributes)
    this.attributes = new Uint32Array(this.#attributeNames.length)
  }

  /** From now on the facts are about this request. */
  describe(request: AdmissionRequest): void {
    this.#request = request
    this.#requestHash = undefined
    this.nowMs = this.#environment.clock.now()
    this.seed = this.#draw()
    this.operation = request.operation
    this.byteLength = request.byteLength
    this.key = request.key ?? ''
    this.tenant = this.#tenants.size > 1 ? (this.#tenants.get(request.tenant) ?? 0) : 0
    this.bucket =
      this.#buckets.size > 1 && request.bucket !== undefined ? (this.#buckets.get(request.bucket) ?? 0) : 0
    for (let index = 0; index < this.#attributeNames.length; index++) {
      this.attributes[index] = attributeHash(request, this.#attributeNames[index] ?? '')
    }
  }

  /** Two FNV-1a hashes of who asks for what, so the retries of a request have the same. Both hooks of a request ask for it. */
  get requestHash(): bigint {
    this.#requestHash ??= this.#hash()
    return this.#requestHash
  }

  #hash(): bigint {
    const request = this.#request
    if (request === undefined) return 0n
    const { operation, tenant, bucket = '', key = '' } = request
    this.#hashed = 0
    this.#high = 0x9747b28c
    this.#low = fnvBasis
    const isPlain =
      this.#add(operation) &&
      this.#addNul() &&
      this.#add(tenant) &&
      this.#addNul() &&
      this.#add(bucket) &&
      this.#addNul() &&
      this.#add(key)
    if (isPlain) {
      hashHalves[1] = this.#high
      hashHalves[0] = this.#low
    } else {
      const text = `${operation}\0${tenant}\0${bucket}\0${key}`
      hashHalves[1] = fnv1a(text, 0x9747b28c)
      hashHalves[0] = fnv1a(text)
    }
    return hashWhole[0] ?? 0n
  }

  /** Both hashes go on over the text. False: it is not ASCII. The same as `fnv1a` of all parts joined, without joining them. */
  #add(text: string): boolean {
    const end = Math.min(text.length, maxHashedUnits - this.#hashed)
    this.#hashed += end
    let high = this.#high
    let low = this.#low
    for (let index = 0; index < end; index++) {
      const unit = text.charCodeAt(index)
      if (unit > 0x7f) return false
      high = Math.imul(high ^ unit, fnvPrime)
      low = Math.imul(low ^ unit, fnvPrime)
    }
    this.#high = high
    this.#low = low
    return true
  }

  #addNul(): boolean {
    if (this.#hashed === maxHashedUnits) return true
    this.#hashed++
    this.#high = Math.imul(this.#high, fnvPrime)
    this.#low = Math.imul(this.#low, fnvPrime)
    return true
  }

  #draw(): number {
    if (this.#drawn === this.#random.length) {
      this.#environment.randomness.fill(new Uint8Array(this.#random.buffer))
      this.#drawn = 0
    }
    return this.#random[this.#drawn++] ?? 0
  }
}

const maxAttributes = 8
const fnvBasis = 0x811c9dc5
const fnvPrime = 0x01000193
/** Two halves written as numbers and read as one: three big integers less for every request. Little-endian, as policies are. */
const hashHalves = new Uint32Array(2)
const hashWhole = new BigUint64Array(hashHalves.buffer)
/** What is hashed of a name, a value or a key at most: the cost of a request has a bound. */
const maxHashedUnits = 512

function attributeHash(request: AdmissionRequest, name: string): number {
  const value =
    name === 'tenant'
      ? request.tenant
      : name === 'access-key'
        ? request.accessKeyId
        : name === 'bucket'
          ? request.bucket
          : request.header(name)
  return value === undefined ? 0 : fnv1a(`${name}=${value}`)
}

/** FNV-1a, 32 bits, over UTF-8. */
export function fnv1a(text: string, basis = fnvBasis): number {
  let hash = basis
  const end = Math.min(text.length, maxHashedUnits)
  for (let index = 0; index < end; index++) {
    const unit = text.charCodeAt(index)
    if (unit > 0x7f) return fnv1aBytes(utf8.encode(text.slice(0, maxHashedUnits)), basis)
    hash = Math.imul(hash ^ unit, fnvPrime)
  }
  return hash >>> 0
}

function fnv1aBytes(bytes: Uint8Array, basis: number): number {
  let hash = basis
  for (const byte of bytes) hash = Math.imul(hash ^ byte, fnvPrime)
  return hash >>> 0
}

const utf8 = new TextEncoder()
