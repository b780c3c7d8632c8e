import { ModuleRefusal } from './module-refusal.ts'

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Reads the binary format's numbers and names; what does not end inside its bounds is refused, never read past. */
export class ByteReader {
  readonly bytes: Uint8Array
  position: number
  readonly end: number

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.bytes = bytes
    this.position = start
    this.end = end
  }

  get isAtEnd(): boolean {
    return this.position >= this.end
  }

  byte(): number {
    const value = this.position < this.end ? this.bytes[this.position++] : undefined
    if (value === undefined)
      throw new ModuleRefusal('malformed', 'the module ends in the middle of something')
    return value
  }

  peek(): number {
    const value = this.byte()
    this.position--
    return value
  }

  /** Unsigned LEB128 of at most 32 bits. */
  u32(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte()
      // Multiplied, not shifted: the fifth byte would push the sign bit.
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) {
        if (value > 0xffff_ffff) break
        return value
      }
    }
    throw new ModuleRefusal('malformed', 'a number is longer than 32 bits')
  }

  /** Steps over a signed LEB128 of at most `bits` bits. */
  skipSigned(bits: number): void {
    for (let read = 0; read < bits; read += 7) {
      if (this.byte() < 0x80) return
    }
    throw new ModuleRefusal('malformed', `a number is longer than ${bits} bits`)
  }

  /** Signed LEB128 of at most 33 bits (33: block types). */
  signed(): number {
    let value = 0
    let shift = 0
    for (; shift < 35; shift += 7) {
      const byte = this.byte()
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return (byte & 0x40) === 0 ? value : value - 2 ** (shift + 7)
    }
    throw new ModuleRefusal('malformed', 'a number is longer than 33 bits')
  }

  skip(length: number): void {
    if (length > this.end - this.position) {
      throw new ModuleRefusal('malformed', 'the module ends in the middle of something')
    }
    this.position += length
  }

  /** A view, not a copy. */
  slice(length: number): Uint8Array {
    const start = this.position
    this.skip(length)
    return this.bytes.subarray(start, this.position)
  }

  name(): string {
    try {
      return utf8.decode(this.slice(this.u32()))
    } catch (cause) {
      if (cause instanceof ModuleRefusal) throw cause
      throw new ModuleRefusal('malformed', 'a name is not UTF-8')
    }
  }

  /** A reader of the next `length` bytes, which this one steps over. */
  part(length: number): ByteReader {
    const start = this.position
    this.skip(length)
    return new ByteReader(this.bytes, start, this.position)
  }
}
