/**
 * A guest's memory with the two regions that the calls go through, seen through typed arrays. When the guest grows its
 * memory, the old buffer is detached and the arrays have length 0: the generated encoders look at that and call `refresh`.
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

  refresh(): void {
    const { buffer } = this.memory
    this.u8 = new Uint8Array(buffer)
    this.u16 = new Uint16Array(buffer)
    this.u32 = new Uint32Array(buffer)
    this.i32 = new Int32Array(buffer)
    this.f64 = new Float64Array(buffer)
    this.u64 = new BigUint64Array(buffer)
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
 * Writes the beginning of `text` as UTF-8, whole characters only. Returns how many bytes, plus 256 when the text goes on
 * (`capacity` is at most 255). Allocates for non-ASCII only.
 */
export function writeText(bytes: Uint8Array, at: number, capacity: number, text: string): number {
  const length = Math.min(text.length, capacity)
  for (let index = 0; index < length; index += 1) {
    const code = text.charCodeAt(index)
    if (code > 127) {
      const { read, written } = encoder.encodeInto(text, bytes.subarray(at, at + capacity))
      return read < text.length ? written + 256 : written
    }
    bytes[at + index] = code
  }
  return text.length > capacity ? length + 256 : length
}

/** Below this a loop is cheaper than the call into the engine that `set` is. */
const fewBytes = 64

export function writeBytes(bytes: Uint8Array, at: number, from: Uint8Array): void {
  const { length } = from
  if (length > fewBytes) {
    bytes.set(from, at)
    return
  }
  for (let index = 0; index < length; index += 1) bytes[at + index] = from[index] as number
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
