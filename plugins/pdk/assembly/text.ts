/** Whether the bytes begin with an ASCII text: for the key prefix of `classify`. */
export function startsWith(bytes: usize, byteLength: i32, text: string): bool {
  if (text.length > byteLength) return false
  for (let index = 0; index < text.length; index++) {
    if (<u16>load<u8>(bytes + <usize>index) != load<u16>(changetype<usize>(text) + (<usize>index << 1))) return false
  }
  return true
}

/** Whether two runs of bytes begin alike. */
export function sameBytes(first: usize, second: usize, byteLength: i32): bool {
  let index = 0
  for (; index + 8 <= byteLength; index += 8) {
    if (load<u64>(first + <usize>index) != load<u64>(second + <usize>index)) return false
  }
  for (; index < byteLength; index++) {
    if (load<u8>(first + <usize>index) != load<u8>(second + <usize>index)) return false
  }
  return true
}

/** FNV-1a, 32 bits: what attributes are handed over as (`name=value`). */
export function fnv1a32(bytes: usize, byteLength: i32): u32 {
  let hash: u32 = 0x811c9dc5
  for (let index = 0; index < byteLength; index++) {
    hash = (hash ^ <u32>load<u8>(bytes + <usize>index)) * 0x01000193
  }
  return hash
}
