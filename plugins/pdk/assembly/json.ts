export namespace JsonKind {
  export const Missing: i32 = 0
  export const Null: i32 = 1
  export const Boolean: i32 = 2
  export const Number: i32 = 3
  export const String: i32 = 4
  export const List: i32 = 5
  export const Object: i32 = 6
}

/**
 * A value inside a JSON text, for the configuration. A `Json` is the address of its first character: nothing is parsed into
 * objects and nothing is allocated. Begin with `parseJson`, which checks the whole text; what is not there is a value of
 * kind Missing, of which everything else is missing too.
 */
@unmanaged
export class Json {
  get kind(): i32 {
    const at = changetype<usize>(this)
    if (at == 0) return JsonKind.Missing
    const first = load<u8>(at)
    if (first == 123) return JsonKind.Object // {
    if (first == 91) return JsonKind.List // [
    if (first == 34) return JsonKind.String // "
    if (first == 116 || first == 102) return JsonKind.Boolean // t f
    if (first == 110) return JsonKind.Null // n
    return JsonKind.Number
  }

  get exists(): bool {
    return changetype<usize>(this) != 0
  }

  /** A member of an object. */
  get(name: string): Json {
    for (let key = this.firstKey(); key.exists; key = key.nextKey()) {
      if (key.equals(name)) return key.value()
    }
    return missing()
  }

  /** `for (let key = value.firstKey(); key.exists; key = key.nextKey())` goes through an object; `key.value()` is the member. */
  firstKey(): Json {
    return this.kind == JsonKind.Object ? this.inside(125) : missing()
  }

  value(): Json {
    // Behind the key: white space, a colon, white space.
    return changetype<Json>(skipSpace(skipSpace(skipString(changetype<usize>(this))) + 1))
  }

  nextKey(): Json {
    return this.value().next()
  }

  /** `for (let item = value.first(); item.exists; item = item.next())` goes through a list. */
  first(): Json {
    return this.kind == JsonKind.List ? this.inside(93) : missing()
  }

  next(): Json {
    const behind = skipSpace(skipValue(changetype<usize>(this)))
    return load<u8>(behind) == 44 ? changetype<Json>(skipSpace(behind + 1)) : missing()
  }

  private inside(close: u8): Json {
    const at = skipSpace(changetype<usize>(this) + 1)
    return load<u8>(at) == close ? missing() : changetype<Json>(at)
  }

  /** 0 unless it is a number. Exact for up to 15 digits and 22 places before or after the point. */
  number(): f64 {
    return this.kind == JsonKind.Number ? readNumber(changetype<usize>(this)) : 0
  }

  boolean(): bool {
    return this.kind == JsonKind.Boolean && load<u8>(changetype<usize>(this)) == 116
  }

  /** Of a string: its UTF-8 bytes as they are in the text, escapes not resolved. */
  get bytes(): usize {
    return changetype<usize>(this) + 1
  }

  get byteLength(): i32 {
    return this.kind == JsonKind.String ? <i32>(skipString(changetype<usize>(this)) - changetype<usize>(this)) - 2 : 0
  }

  /** Whether it is that string; ASCII without quotes and backslashes. */
  equals(text: string): bool {
    if (this.kind != JsonKind.String) return false
    const at = this.bytes
    for (let index = 0; index < text.length; index++) {
      if (<u16>load<u8>(at + <usize>index) != load<u16>(changetype<usize>(text) + (<usize>index << 1))) return false
    }
    return load<u8>(at + <usize>text.length) == 34
  }

  /** Whether two strings of one text are the same. */
  sameAs(other: Json): bool {
    const byteLength = this.byteLength
    if (this.kind != JsonKind.String || other.kind != JsonKind.String || other.byteLength != byteLength) return false
    for (let index = 0; index < byteLength; index++) {
      if (load<u8>(this.bytes + <usize>index) != load<u8>(other.bytes + <usize>index)) return false
    }
    return true
  }

  /** How many items a list has. */
  count(): i32 {
    let count = 0
    for (let item = this.first(); item.exists; item = item.next()) count += 1
    return count
  }

  /** Where in a list of strings that string is; -1 = nowhere. */
  indexOf(wanted: Json): i32 {
    let index = 0
    for (let item = this.first(); item.exists; item = item.next()) {
      if (item.sameAs(wanted)) return index
      index += 1
    }
    return -1
  }

  indexOfText(wanted: string): i32 {
    let index = 0
    for (let item = this.first(); item.exists; item = item.next()) {
      if (item.equals(wanted)) return index
      index += 1
    }
    return -1
  }
}

function missing(): Json {
  return changetype<Json>(0)
}

/** The value in the text, or Missing when the text is not JSON or deeper than 16 levels. */
export function parseJson(address: usize, byteLength: i32): Json {
  const end = address + <usize>byteLength
  const start = spaceEnd(address, end)
  const behind = checkValue(start, end, 16)
  return behind != 0 && spaceEnd(behind, end) == end ? changetype<Json>(start) : missing()
}

// Checking: each function returns the address behind what it has read, 0 = this is not JSON.

function spaceEnd(at: usize, end: usize): usize {
  while (at < end && isSpace(load<u8>(at))) at += 1
  return at
}

function isSpace(byte: u8): bool {
  return byte == 32 || (byte >= 9 && byte <= 13)
}

function checkValue(at: usize, end: usize, depth: i32): usize {
  if (at >= end || depth == 0) return 0
  const first = load<u8>(at)
  if (first == 123 || first == 91) return checkNested(at, end, depth, first == 123)
  if (first == 34) return checkString(at, end)
  if (first == 116) return checkWord(at, end, 'true')
  if (first == 102) return checkWord(at, end, 'false')
  if (first == 110) return checkWord(at, end, 'null')
  return checkNumber(at, end)
}

function checkNested(start: usize, end: usize, depth: i32, isObject: bool): usize {
  const close: u8 = isObject ? 125 : 93
  let at = spaceEnd(start + 1, end)
  if (at < end && load<u8>(at) == close) return at + 1
  while (true) {
    if (isObject) {
      if (at >= end || load<u8>(at) != 34) return 0
      at = checkString(at, end)
      if (at == 0) return 0
      at = spaceEnd(at, end)
      if (at >= end || load<u8>(at) != 58) return 0
      at = spaceEnd(at + 1, end)
    }
    at = checkValue(at, end, depth - 1)
    if (at == 0) return 0
    at = spaceEnd(at, end)
    if (at >= end) return 0
    const byte = load<u8>(at)
    if (byte == close) return at + 1
    if (byte != 44) return 0
    at = spaceEnd(at + 1, end)
  }
}

function checkString(start: usize, end: usize): usize {
  for (let at = skipPlain(start + 1, end); at < end; at += 1) {
    const byte = load<u8>(at)
    if (byte == 34) return at + 1
    if (byte < 32) return 0
    if (byte == 92) at += 1
  }
  return 0
}

/**
 * Goes over characters of a string that are neither quote nor backslash nor control, eight at a time: strings are most of a
 * long configuration, and fuel is counted by instructions. The tests for bytes below n and equal to n are exact up to
 * the first hit, which is as far as anyone looks (S. E. Anderson, Bit Twiddling Hacks).
 */
function skipPlain(at: usize, end: usize): usize {
  const ones: u64 = 0x0101010101010101
  const tops: u64 = 0x8080808080808080
  while (at + 8 <= end) {
    const bytes = load<u64>(at)
    const quotes = bytes ^ (ones * 34)
    const backslashes = bytes ^ (ones * 92)
    const special =
      ((bytes - ones * 32) & ~bytes) | ((quotes - ones) & ~quotes) | ((backslashes - ones) & ~backslashes)
    if ((special & tops) != 0) return at
    at += 8
  }
  return at
}

function checkWord(at: usize, end: usize, word: string): usize {
  for (let index = 0; index < word.length; index++) {
    if (at + <usize>index >= end) return 0
    if (<u16>load<u8>(at + <usize>index) != load<u16>(changetype<usize>(word) + (<usize>index << 1))) return 0
  }
  return at + <usize>word.length
}

function isDigit(at: usize, end: usize): bool {
  if (at >= end) return false
  const byte = load<u8>(at)
  return byte >= 48 && byte <= 57
}

function checkNumber(start: usize, end: usize): usize {
  let at = start
  if (load<u8>(at) == 45) at += 1
  if (!isDigit(at, end)) return 0
  while (isDigit(at, end)) at += 1
  if (at < end && load<u8>(at) == 46) {
    at += 1
    if (!isDigit(at, end)) return 0
    while (isDigit(at, end)) at += 1
  }
  if (at < end && (load<u8>(at) | 32) == 101) {
    at += 1
    if (at < end && (load<u8>(at) == 43 || load<u8>(at) == 45)) at += 1
    if (!isDigit(at, end)) return 0
    while (isDigit(at, end)) at += 1
  }
  return at
}

// Walking: the text has been checked, so every value has its end.

function skipSpace(at: usize): usize {
  while (isSpace(load<u8>(at))) at += 1
  return at
}

function skipString(at: usize): usize {
  at = skipPlain(at + 1, <usize>memory.size() << 16)
  while (load<u8>(at) != 34) at += load<u8>(at) == 92 ? 2 : 1
  return at + 1
}

function skipValue(at: usize): usize {
  const first = load<u8>(at)
  if (first == 34) return skipString(at)
  if ((first | 32) != 123) {
    // A number or a word.
    while (isWordByte(load<u8>(at))) at += 1
    return at
  }
  let depth = 0
  do {
    const byte = load<u8>(at)
    if (byte == 34) {
      at = skipString(at)
      continue
    }
    // [ and { differ in one bit, and so do ] and }.
    if ((byte | 32) == 123) depth += 1
    else if ((byte | 32) == 125) depth -= 1
    at += 1
  } while (depth > 0)
  return at
}

function isWordByte(byte: u8): bool {
  return (byte >= 48 && byte <= 57) || (byte >= 97 && byte <= 122) || byte == 45 || byte == 43 || byte == 46 || byte == 69
}

function readNumber(at: usize): f64 {
  const isNegative = load<u8>(at) == 45
  if (isNegative) at += 1
  let digits: f64 = 0
  let exponent = 0
  let isFraction = false
  for (; ; at += 1) {
    const byte = load<u8>(at)
    if (byte == 46) isFraction = true
    else if (byte >= 48 && byte <= 57) {
      digits = digits * 10 + <f64>(byte - 48)
      if (isFraction) exponent -= 1
    } else break
  }
  if ((load<u8>(at) | 32) == 101) {
    at += 1
    const isSmall = load<u8>(at) == 45
    if (isSmall || load<u8>(at) == 43) at += 1
    let written = 0
    for (let byte = load<u8>(at); byte >= 48 && byte <= 57 && written < 1000; byte = load<u8>(at)) {
      written = written * 10 + <i32>(byte - 48)
      at += 1
    }
    exponent += isSmall ? -written : written
  }
  // One division is correctly rounded for up to 22 decimal places; multiplying by 0.1 each time would not be.
  let power: f64 = 1
  for (let left = min(abs(exponent), 400); left > 0; left -= 1) power *= 10
  const value = exponent < 0 ? digits / power : digits * power
  return isNegative ? -value : value
}
