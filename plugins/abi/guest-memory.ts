/**
 * A guest's memory with the two regions that the calls go through, seen through typed arrays. When the guest grows its
 * memory, the old buffer is detached and the arrays have length 0: the generated encoders look at that and `reattach`.
 */
export class GuestMemory {
  readonly memory: WebAssembly.Memory
  /** Byte addresses, multiples of 8. */
  readonly input: number
  readonly output: number
  u8: Uint8Array
  u16: Uint16Array
  u32: Uint32Array
  i32: Int32Array
  f64: Float64Array
  u64: BigUint64Array

  /** Throws RangeError when a region is not aligned or not inside the memory. */
  constructor(memory: WebAssembly.Memory, regions: { input: Region; output: Region }) {
    const { buffer } = memory
    for (const [name, { address, byteLength }] of Object.entries(regions)) {
      if (!Number.isInteger(address) || address <= 0 || address % 8 !== 0)
        throw new RangeError(`the ${name} region at ${address} is not at a multiple of 8`)
      if (address + byteLength > buffer.byteLength)
        throw new RangeError(`the ${name} region at ${address} ends behind the memory`)
    }
    const [first, second] = [regions.input, regions.output].toSorted((a, b) => a.address - b.address)
    if (first && second && first.address + first.byteLength > second.address)
      throw new RangeError('the regions overlap')
    this.memory = memory
    this.input = regions.input.address
    this.output = regions.output.address
    this.u8 = new Uint8Array(buffer)
    this.u16 = new Uint16Array(buffer)
    this.u32 = new Uint32Array(buffer)
    this.i32 = new Int32Array(buffer)
    this.f64 = new Float64Array(buffer)
    this.u64 = new BigUint64Array(buffer)
    this.u8.fill(0, regions.input.address, regions.input.address + regions.input.byteLength)
    this.u8.fill(0, regions.output.address, regions.output.address + regions.output.byteLength)
  }

  /** Whether the guest has grown its memory since: then the arrays are made anew. */
  reattach(): boolean {
    if (this.u8.length > 0) return false
    const { buffer } = this.memory
    this.u8 = new Uint8Array(buffer)
    this.u16 = new Uint16Array(buffer)
    this.u32 = new Uint32Array(buffer)
    this.i32 = new Int32Array(buffer)
    this.f64 = new Float64Array(buffer)
    this.u64 = new BigUint64Array(buffer)
    return true
  }
}

export interface Region {
  readonly address: number
  readonly byteLength: number
}

// Typed arrays have the byte order of the machine, the ABI has little-endian.
if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1)
  throw new Error('policies need a little-endian machine')

const encoder = new TextEncoder()

/**
 * Writes the beginning of `text` as UTF-8, whole characters only, at a multiple of 4. Returns how many bytes, plus 256 when the text
 * goes on (`capacity` is at most 255). What follows in the last word is zeroed. Allocates for non-ASCII only.
 */
export function writeText({ u8, u32 }: GuestMemory, at: number, capacity: number, text: string): number {
  const length = Math.min(text.length, capacity)
  let word = at >>> 2
  let index = 0
  // Four at a time: a store costs as much as the characters that are in it.
  for (; index + 4 <= length; index += 4) {
    const [a, b] = [text.charCodeAt(index), text.charCodeAt(index + 1)]
    const [c, d] = [text.charCodeAt(index + 2), text.charCodeAt(index + 3)]
    if ((a | b | c | d) > 127) return encodeText(u8, at, capacity, text)
    u32[word++] = a | (b << 8) | (c << 16) | (d << 24)
  }
  let rest = 0
  for (let bits = 0; index < length; index += 1, bits += 8) {
    const code = text.charCodeAt(index)
    if (code > 127) return encodeText(u8, at, capacity, text)
    rest |= code << bits
  }
  if ((length & 3) !== 0) u32[word] = rest
  return text.length > capacity ? length + 256 : length
}

function encodeText(u8: Uint8Array, at: number, capacity: number, text: string): number {
  const { read, written } = encoder.encodeInto(text, u8.subarray(at, at + capacity))
  return read < text.length ? written + 256 : written
}

/** Below this a loop is cheaper than the call into the engine that `set` is. */
const fewBytes = 64

/** At a multiple of 4. What follows in the last word is zeroed. */
export function writeBytes({ u8, u32 }: GuestMemory, at: number, from: Uint8Array): void {
  const { length } = from
  if (length > fewBytes) {
    if ((length & 3) !== 0) u32[(at + length) >>> 2] = 0
    u8.set(from, at)
    return
  }
  let word = at >>> 2
  let index = 0
  for (; index + 4 <= length; index += 4) {
    const low = (from[index] as number) | ((from[index + 1] as number) << 8)
    u32[word++] = low | ((from[index + 2] as number) << 16) | ((from[index + 3] as number) << 24)
  }
  if (index === length) return
  let rest = from[index] as number
  if (index + 1 < length) rest |= (from[index + 1] as number) << 8
  if (index + 2 < length) rest |= (from[index + 2] as number) << 16
  u32[word] = rest
}

const decoder = new TextDecoder('utf-8', { fatal: true })

/** Whether the bytes are a JSON object in UTF-8. */
export function isJsonObject(bytes: Uint8Array): boolean {
  try {
    const value: unknown = JSON.parse(decoder.decode(bytes))
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}
