/**
 * Integer hashes that are the same on every machine. Mixing is the finalizer of MurmurHash3 (Appleby, public domain), which changes
 * each bit of the result with probability 1/2 for each bit of the input.
 */
export function mix(value: number): number {
  let mixed = value
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}

/** FNV-1a over the UTF-16 units, mixed. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++)
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  return mix(hash)
}

/**
 * Natural logarithm of (value + 1) / 2^32 for a 32-bit value, within 1e-4: additions, multiplications and one division only, which
 * IEEE 754 defines to the last bit. Math.log may differ between versions of an engine, and nodes must agree.
 */
export function logOfShare(value: number): number {
  const number = value + 1
  const exponent = number > 0xffff_ffff ? 32 : 31 - Math.clz32(number)
  const mantissa = number / 2 ** exponent
  // ln m = 2 artanh((m - 1) / (m + 1))
  const ratio = (mantissa - 1) / (mantissa + 1)
  const square = ratio * ratio
  const lnMantissa = 2 * ratio * (1 + square * (1 / 3 + square * (1 / 5 + square / 7)))
  return (exponent - 32) * Math.LN2 + lnMantissa
}
