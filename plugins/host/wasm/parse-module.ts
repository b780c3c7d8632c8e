import { ByteReader } from './byte-reader.ts'
import { readConstantExpression, readValueType, valueType } from './instructions.ts'
import { type ModuleLimits, moduleLimits } from './limits.ts'
import { ModuleRefusal } from './module-refusal.ts'

/** Import module of ABI version 1, and the only function in it. */
export const importModule = 'pando1'
export const importLog = 'log'
/** Names that start so are the host's. */
export const reservedPrefix = '__pando_'

export const sectionId = {
  custom: 0,
  type: 1,
  import: 2,
  function: 3,
  table: 4,
  memory: 5,
  global: 6,
  export: 7,
  start: 8,
  element: 9,
  code: 10,
  data: 11,
  dataCount: 12,
} as const

export interface FunctionType {
  readonly parameters: readonly number[]
  readonly results: readonly number[]
}

export interface ExportEntry {
  readonly kind: 'function' | 'table' | 'memory' | 'global'
  readonly index: number
}

export interface TableDeclaration {
  readonly elementType: number
  readonly minimum: number
  readonly maximum: number | undefined
}

/** A module that passed the allow-list. Indexes are the module's own; bytes are views into it. */
export interface ParsedModule {
  readonly bytes: Uint8Array
  readonly sections: ReadonlyMap<number, Uint8Array>
  readonly customSections: ReadonlyMap<string, Uint8Array>
  readonly types: readonly FunctionType[]
  /** Type index of each function, imports first. */
  readonly functions: readonly number[]
  readonly importedFunctions: number
  readonly tables: readonly TableDeclaration[]
  readonly memory: { readonly minimum: number; readonly maximum: number | undefined } | undefined
  /** Value of each global that is an immutable i32 constant. */
  readonly constants: readonly (number | undefined)[]
  readonly exports: ReadonlyMap<string, ExportEntry>
  readonly startFunction: number | undefined
  readonly bodies: readonly { readonly start: number; readonly end: number }[]
}

const sectionNames: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(sectionId).map(([name, id]) => [id, name]),
)

/**
 * Reads a module that `WebAssembly.validate` has accepted.
 *
 * REQUIRES: `WebAssembly.validate(bytes)`. This reader checks what a policy may use, not whether types agree.
 * @throws ModuleRefusal with what was found and why it is not let in
 */
export function parseModule(bytes: Uint8Array, limits: ModuleLimits = moduleLimits): ParsedModule {
  const reader = new ByteReader(bytes)
  for (const expected of [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]) {
    if (reader.byte() !== expected) {
      throw new ModuleRefusal('malformed', 'not a core WebAssembly module of version 1')
    }
  }
  const sections = new Map<number, Uint8Array>()
  const customSections = new Map<string, Uint8Array>()
  while (!reader.isAtEnd) {
    const id = reader.byte()
    const part = reader.part(reader.u32())
    if (id === sectionId.custom) {
      const name = part.name()
      if (!customSections.has(name)) customSections.set(name, bytes.subarray(part.position, part.end))
      continue
    }
    if (id === 13) {
      throw new ModuleRefusal(
        'exceptions',
        'the module declares exception tags: policies have no exception handling, so that a trap always ends the call',
      )
    }
    if (sectionNames[id] === undefined) {
      throw new ModuleRefusal('section', `the module has a section of unknown kind ${id}`)
    }
    sections.set(id, bytes.subarray(part.position, part.end))
  }

  const section = (id: number) => new ByteReader(sections.get(id) ?? new Uint8Array(1))
  const types = readTypes(section(sectionId.type), limits)
  const imports = readImports(section(sectionId.import), types)
  const functions = [...imports, ...readFunctions(section(sectionId.function), limits)]
  const start = sections.has(sectionId.start) ? section(sectionId.start).u32() : undefined
  checkElements(section(sectionId.element))
  checkData(section(sectionId.data), limits)
  return {
    bytes,
    sections,
    customSections,
    types,
    functions,
    importedFunctions: imports.length,
    tables: readTables(section(sectionId.table), limits),
    memory: readMemory(section(sectionId.memory), limits),
    constants: readGlobals(section(sectionId.global), limits),
    exports: readExports(section(sectionId.export), limits),
    startFunction: start,
    bodies: readBodies(section(sectionId.code), limits),
  }
}

function bounded(count: number, limit: number, what: string): number {
  if (count > limit) throw new ModuleRefusal('limit', `the module has ${count} ${what}, more than ${limit}`)
  return count
}

function readTypes(reader: ByteReader, limits: ModuleLimits): readonly FunctionType[] {
  const count = bounded(reader.u32(), limits.types, 'types')
  return Array.from({ length: count }, () => {
    const form = reader.byte()
    if (form !== 0x60) {
      throw new ModuleRefusal(
        'garbage-collection',
        `the module declares a type of form 0x${form.toString(16)}, of the garbage collection proposal: only function types are let in`,
      )
    }
    const list = () => Array.from({ length: reader.u32() }, () => readValueType(reader))
    return { parameters: list(), results: list() }
  })
}

/** Type indexes of the imported functions; anything but `pando1.log` is refused by its name. */
function readImports(reader: ByteReader, types: readonly FunctionType[]): readonly number[] {
  const found: number[] = []
  for (let count = reader.u32(); count > 0; count--) {
    const from = reader.name()
    const name = reader.name()
    const kind = reader.byte()
    const what = `${from}.${name}`
    if (kind === 1) {
      throw new ModuleRefusal(
        'imported-table',
        `the module imports the table ${what}: it has to own its tables`,
      )
    }
    if (kind === 2) {
      const flags = reader.byte()
      if ((flags & 2) !== 0) {
        throw new ModuleRefusal('shared-memory', `the module imports the shared memory ${what}: no threads`)
      }
      throw new ModuleRefusal(
        'imported-memory',
        `the module imports its memory (${what}): a policy defines and exports its own (AssemblyScript: without --importMemory)`,
      )
    }
    if (kind === 3) {
      throw new ModuleRefusal('imported-global', `the module imports the global ${what}, which there is not`)
    }
    if (kind === 4) {
      throw new ModuleRefusal('exceptions', `the module imports the exception tag ${what}`)
    }
    if (kind !== 0)
      throw new ModuleRefusal('unknown-import', `the module imports ${what} of unknown kind ${kind}`)
    if (from.startsWith('wasi')) {
      throw new ModuleRefusal(
        'wasi',
        `the module imports ${what}: policies have no WASI, and get time and randomness in the header of each call`,
      )
    }
    if (from !== importModule || name !== importLog) {
      const hint = what === 'env.abort' ? ' (AssemblyScript: compile with --use abort=)' : ''
      throw new ModuleRefusal(
        'unknown-import',
        `the module imports ${what}: the only import that there is, is ${importModule}.${importLog}${hint}`,
      )
    }
    const index = reader.u32()
    const type = types[index]
    const isLog = type?.results.length === 0 && type.parameters.join() === Array(3).fill(valueType.i32).join()
    if (!isLog) {
      throw new ModuleRefusal(
        'import-type',
        `the module imports ${what} with another type than (level i32, ptr i32, len i32) -> ()`,
      )
    }
    found.push(index)
  }
  return found
}

function readFunctions(reader: ByteReader, limits: ModuleLimits): readonly number[] {
  const count = bounded(reader.u32(), limits.functions, 'functions')
  return Array.from({ length: count }, () => reader.u32())
}

function readLimits(
  reader: ByteReader,
  what: 'memory' | 'table',
): { minimum: number; maximum: number | undefined } {
  const flags = reader.byte()
  if ((flags & 2) !== 0) {
    throw new ModuleRefusal(
      what === 'memory' ? 'shared-memory' : 'threads',
      `the module has a shared ${what}: a policy runs alone, on one thread`,
    )
  }
  if ((flags & 4) !== 0) {
    throw new ModuleRefusal(
      'memory64',
      `the module has a 64-bit ${what} (memory64): policies use 32-bit addresses`,
    )
  }
  if ((flags & 8) !== 0) {
    throw new ModuleRefusal('custom-page-size', 'the module has a memory with a page size of its own')
  }
  if (flags > 1) throw new ModuleRefusal('malformed', `the limits of a ${what} have unknown flags ${flags}`)
  return { minimum: reader.u32(), maximum: flags === 1 ? reader.u32() : undefined }
}

function readTables(reader: ByteReader, limits: ModuleLimits): readonly TableDeclaration[] {
  const count = bounded(reader.u32(), limits.tables, 'tables')
  return Array.from({ length: count }, () => {
    if (reader.peek() === 0x40) {
      throw new ModuleRefusal('typed-references', 'the module has a table with an initial value')
    }
    const elementType = readValueType(reader)
    const range = readLimits(reader, 'table')
    if (range.minimum > limits.tableEntries) {
      throw new ModuleRefusal(
        'table-size',
        `the module wants a table of ${range.minimum} entries, more than ${limits.tableEntries}`,
      )
    }
    return { elementType, ...range }
  })
}

function readMemory(reader: ByteReader, limits: ModuleLimits): ParsedModule['memory'] {
  const count = reader.u32()
  if (count > 1) {
    throw new ModuleRefusal('second-memory', `the module has ${count} memories: a policy has one`)
  }
  if (count === 0) return undefined
  const range = readLimits(reader, 'memory')
  if (range.minimum > limits.memoryPages) {
    throw new ModuleRefusal(
      'memory-size',
      `the module wants ${range.minimum} pages of memory at the start, more than ${limits.memoryPages} (${limits.memoryPages / 16} MiB)`,
    )
  }
  return range
}

function readGlobals(reader: ByteReader, limits: ModuleLimits): readonly (number | undefined)[] {
  const count = bounded(reader.u32(), limits.globals, 'globals')
  return Array.from({ length: count }, () => {
    const type = readValueType(reader)
    const flags = reader.byte()
    if (flags > 1) throw new ModuleRefusal('threads', 'the module has a shared global')
    const value = readConstantExpression(reader)
    return type === valueType.i32 && flags === 0 ? value : undefined
  })
}

const exportKinds = ['function', 'table', 'memory', 'global'] as const

function readExports(reader: ByteReader, limits: ModuleLimits): ReadonlyMap<string, ExportEntry> {
  const found = new Map<string, ExportEntry>()
  for (let count = bounded(reader.u32(), limits.exports, 'exports'); count > 0; count--) {
    const name = reader.name()
    const kind = exportKinds[reader.byte()]
    const index = reader.u32()
    if (name.startsWith(reservedPrefix)) {
      throw new ModuleRefusal(
        'reserved-export',
        `the module exports ${name}: names that start with ${reservedPrefix} are the host's`,
      )
    }
    if (kind === undefined)
      throw new ModuleRefusal('exceptions', `the module exports the exception tag ${name}`)
    found.set(name, { kind, index })
  }
  return found
}

function checkElements(reader: ByteReader): void {
  for (let count = reader.u32(); count > 0; count--) {
    const flags = reader.u32()
    if (flags > 7) throw new ModuleRefusal('malformed', `an element segment has unknown flags ${flags}`)
    const isActive = (flags & 1) === 0
    if (isActive && (flags & 2) !== 0) reader.u32()
    if (isActive) readConstantExpression(reader)
    const hasExpressions = (flags & 4) !== 0
    if ((flags & 3) !== 0) {
      if (hasExpressions) readValueType(reader)
      else reader.byte()
    }
    for (let entries = reader.u32(); entries > 0; entries--) {
      if (hasExpressions) readConstantExpression(reader)
      else reader.u32()
    }
  }
}

function checkData(reader: ByteReader, limits: ModuleLimits): void {
  let total = 0
  for (let count = reader.u32(); count > 0; count--) {
    const flags = reader.u32()
    if (flags > 2) throw new ModuleRefusal('malformed', `a data segment has unknown flags ${flags}`)
    if (flags === 2 && reader.u32() !== 0) {
      throw new ModuleRefusal('second-memory', 'a data segment names a second memory: a policy has one')
    }
    if (flags !== 1) readConstantExpression(reader)
    const length = reader.u32()
    reader.skip(length)
    total += length
  }
  if (total > limits.dataBytes) {
    throw new ModuleRefusal('limit', `the data segments hold ${total} bytes, more than ${limits.dataBytes}`)
  }
}

function readBodies(reader: ByteReader, limits: ModuleLimits): readonly { start: number; end: number }[] {
  const count = reader.u32()
  return Array.from({ length: count }, (_, index) => {
    const length = reader.u32()
    if (length > limits.bodyBytes) {
      throw new ModuleRefusal(
        'limit',
        `the body of function ${index} has ${length} bytes, more than ${limits.bodyBytes}`,
      )
    }
    const start = reader.position
    reader.skip(length)
    return { start, end: start + length }
  })
}
