/**
 * What is added to a compiled module to make it a policy: custom sections, and the exported global `pando_abi` for languages
 * that cannot export one by value. Byte for byte the same result for the same input. The layout of the binary format is in
 * https://webassembly.github.io/spec/core/binary/modules.html; the module is expected to be valid.
 */
interface Section {
  readonly id: number
  readonly content: Uint8Array
}

const sectionIds = { custom: 0, import: 2, global: 6, export: 7, start: 8, code: 10 } as const
const text = new TextEncoder()

/** Throws Error when the bytes are no WebAssembly module. */
export function readSections(bytes: Uint8Array): readonly Section[] {
  const magic = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]
  if (bytes.length < 8 || magic.some((byte, index) => bytes[index] !== byte))
    throw new Error('this is not a WebAssembly module')
  const sections: Section[] = []
  const cursor = new Cursor(bytes, 8)
  while (cursor.at < bytes.length) {
    const id = cursor.byte()
    sections.push({ id, content: cursor.take(cursor.unsigned()) })
  }
  return sections
}

export function sectionName({ id, content }: Section): string | undefined {
  if (id !== sectionIds.custom) return undefined
  const cursor = new Cursor(content, 0)
  return new TextDecoder().decode(cursor.take(cursor.unsigned()))
}

/** The content of the first custom section of that name. */
export function customSection(bytes: Uint8Array, name: string): Uint8Array | undefined {
  const section = readSections(bytes).find((each) => sectionName(each) === name)
  if (section === undefined) return undefined
  const cursor = new Cursor(section.content, 0)
  cursor.take(cursor.unsigned())
  return section.content.subarray(cursor.at)
}

/** Replaces the custom sections of those names, at the end of the module. Others are kept, but for `drop`. */
export function withCustomSections(
  bytes: Uint8Array,
  contents: Readonly<Record<string, Uint8Array>>,
  drop: readonly string[] = [],
): Uint8Array {
  const gone = new Set([...Object.keys(contents), ...drop])
  const kept = readSections(bytes).filter((section) => !gone.has(sectionName(section) ?? ''))
  const added = Object.entries(contents).map(([name, content]) => ({
    id: sectionIds.custom,
    content: concatenate([...named(name), content]),
  }))
  return writeSections([...kept, ...added])
}

/** Adds an immutable i32 global and exports it. A module that exports the name already is returned as it is. */
export function withExportedConstant(bytes: Uint8Array, name: string, value: number): Uint8Array {
  const sections = readSections(bytes)
  const exports = sections.find(({ id }) => id === sectionIds.export)
  if (exports !== undefined && exportNames(exports.content).includes(name)) return bytes
  const globals = sections.find(({ id }) => id === sectionIds.global)
  const imported = sections.find(({ id }) => id === sectionIds.import)
  if (imported !== undefined && importsGlobal(imported.content))
    throw new Error('a module that imports globals is no policy')
  const counted = globals && new Cursor(globals.content, 0)
  const globalCount = counted?.unsigned() ?? 0
  const constant = [Uint8Array.of(0x7f, 0x00, 0x41), signed(value), Uint8Array.of(0x0b)]
  const grown = grow(globals?.content, constant)
  const exported = grow(exports?.content, [...named(name), Uint8Array.of(0x03), unsigned(globalCount)])
  return writeSections(
    place(place(sections, { id: sectionIds.global, content: grown }), {
      id: sectionIds.export,
      content: exported,
    }),
  )
}

/**
 * Takes out a start function that does nothing but set globals to constants, by making these their initial values: this is
 * what AssemblyScript writes for its allocator. Any other start function stays; a host wants to be told of it.
 */
export function withoutTrivialStart(bytes: Uint8Array): Uint8Array {
  const sections = readSections(bytes)
  const content = (id: number) => sections.find((section) => section.id === id)?.content
  const [start, code, globals] = [
    content(sectionIds.start),
    content(sectionIds.code),
    content(sectionIds.global),
  ]
  if (start === undefined || code === undefined || globals === undefined) return bytes
  const imports = content(sectionIds.import)
  const imported = imports === undefined ? 0 : importedFunctionCount(imports)
  if (imported === undefined) return bytes
  const assignments = constantAssignments(functionBody(code, new Cursor(start, 0).unsigned() - imported))
  const changed = assignments && withInitialValues(globals, assignments)
  if (changed === undefined) return bytes
  return writeSections(
    sections
      .filter(({ id }) => id !== sectionIds.start)
      .map((section) => (section.id === sectionIds.global ? { ...section, content: changed } : section)),
  )
}

export function hasStartFunction(bytes: Uint8Array): boolean {
  return readSections(bytes).some(({ id }) => id === sectionIds.start)
}

/** undefined: it imports something else too. */
function importedFunctionCount(content: Uint8Array): number | undefined {
  return importsGlobal(content) ? undefined : new Cursor(content, 0).unsigned()
}

function functionBody(code: Uint8Array, wanted: number): Uint8Array {
  const cursor = new Cursor(code, 0)
  const count = cursor.unsigned()
  for (let index = 0; index < count; index += 1) {
    const body = cursor.take(cursor.unsigned())
    if (index === wanted) return body
  }
  throw new Error('the start function is not there')
}

const opcodes = { end: 0x0b, globalSet: 0x24, i32Const: 0x41 } as const

/** What `(i32.const, global.set)*` sets, by the index of the global; undefined: the function does something else. */
function constantAssignments(body: Uint8Array): ReadonlyMap<number, Uint8Array> | undefined {
  const cursor = new Cursor(body, 0)
  if (cursor.unsigned() !== 0) return undefined
  const found = new Map<number, Uint8Array>()
  while (cursor.at < body.length) {
    const operation = cursor.byte()
    if (operation === opcodes.end) return cursor.at === body.length ? found : undefined
    if (operation !== opcodes.i32Const) return undefined
    const from = cursor.at
    cursor.skipNumber()
    const value = body.subarray(from, cursor.at)
    if (cursor.byte() !== opcodes.globalSet) return undefined
    found.set(cursor.unsigned(), value)
  }
  return undefined
}

function withInitialValues(
  globals: Uint8Array,
  values: ReadonlyMap<number, Uint8Array>,
): Uint8Array | undefined {
  const cursor = new Cursor(globals, 0)
  const count = cursor.unsigned()
  const parts: Uint8Array[] = [unsigned(count)]
  for (let index = 0; index < count; index += 1) {
    const from = cursor.at
    cursor.at += 2
    const expression = cursor.at
    if (!cursor.skipConstant()) return undefined
    const value = values.get(index)
    parts.push(globals.subarray(from, value === undefined ? cursor.at : expression))
    if (value !== undefined) parts.push(Uint8Array.of(opcodes.i32Const), value, Uint8Array.of(opcodes.end))
  }
  return concatenate(parts)
}

/** Names of the exports, in their order. */
export function listExports(bytes: Uint8Array): readonly string[] {
  const section = readSections(bytes).find(({ id }) => id === sectionIds.export)
  return section === undefined ? [] : exportNames(section.content)
}

function exportNames(content: Uint8Array): readonly string[] {
  const cursor = new Cursor(content, 0)
  return Array.from({ length: cursor.unsigned() }, () => {
    const name = new TextDecoder().decode(cursor.take(cursor.unsigned()))
    cursor.byte()
    cursor.unsigned()
    return name
  })
}

function importsGlobal(content: Uint8Array): boolean {
  const cursor = new Cursor(content, 0)
  for (let left = cursor.unsigned(); left > 0; left -= 1) {
    cursor.take(cursor.unsigned())
    cursor.take(cursor.unsigned())
    // Only functions have a description of one index; anything else is refused by the host anyway.
    if (cursor.byte() !== 0x00) return true
    cursor.unsigned()
  }
  return false
}

/** One more item in a section that is a counted list. */
function grow(content: Uint8Array | undefined, item: readonly Uint8Array[]): Uint8Array {
  if (content === undefined) return concatenate([unsigned(1), ...item])
  const cursor = new Cursor(content, 0)
  const count = cursor.unsigned()
  return concatenate([unsigned(count + 1), content.subarray(cursor.at), ...item])
}

/** Replaces the section of that id, or puts it where the order of ids wants it. */
function place(sections: readonly Section[], section: Section): readonly Section[] {
  if (sections.some(({ id }) => id === section.id))
    return sections.map((each) => (each.id === section.id ? section : each))
  const behind = sections.findIndex(({ id }) => id > section.id)
  const at = behind < 0 ? sections.length : behind
  return [...sections.slice(0, at), section, ...sections.slice(at)]
}

function writeSections(sections: readonly Section[]): Uint8Array {
  const magic = Uint8Array.of(0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00)
  return concatenate([
    magic,
    ...sections.flatMap(({ id, content }) => [Uint8Array.of(id), unsigned(content.length), content]),
  ])
}

function named(name: string): readonly Uint8Array[] {
  const bytes = text.encode(name)
  return [unsigned(bytes.length), bytes]
}

class Cursor {
  readonly #bytes: Uint8Array
  at: number

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes
    this.at = at
  }

  byte(): number {
    const value = this.#bytes[this.at]
    if (value === undefined) throw new Error('the module ends in the middle')
    this.at += 1
    return value
  }

  /** LEB128 of at most 32 bits. */
  unsigned(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte()
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    throw new Error('a number of the module is too long')
  }

  /** LEB128 of any length and sign. */
  skipNumber(): void {
    while (this.byte() >= 0x80);
  }

  /** A constant expression; false: one that we do not know. */
  skipConstant(): boolean {
    const operation = this.byte()
    if (operation === 0x41 || operation === 0x42 || operation === 0x23) this.skipNumber()
    else if (operation === 0x43) this.take(4)
    else if (operation === 0x44) this.take(8)
    else return false
    return this.byte() === opcodes.end
  }

  take(length: number): Uint8Array {
    const end = this.at + length
    if (end > this.#bytes.length) throw new Error('the module ends in the middle')
    const part = this.#bytes.subarray(this.at, end)
    this.at = end
    return part
  }
}

function unsigned(value: number): Uint8Array {
  const bytes: number[] = []
  let rest = value
  do {
    const low = rest % 128
    rest = Math.floor(rest / 128)
    bytes.push(rest > 0 ? low | 0x80 : low)
  } while (rest > 0)
  return Uint8Array.from(bytes)
}

function signed(value: number): Uint8Array {
  const bytes: number[] = []
  let rest = value | 0
  for (;;) {
    const low = rest & 0x7f
    rest >>= 7
    const isLast = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)
    bytes.push(isLast ? low : low | 0x80)
    if (isLast) return Uint8Array.from(bytes)
  }
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
