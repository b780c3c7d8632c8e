/** Why a module is not a policy; one kind for each rule, so that a test and a person can tell them apart. */
export type RefusalKind =
  | 'invalid'
  | 'malformed'
  | 'module-size'
  | 'section'
  | 'unknown-import'
  | 'wasi'
  | 'imported-memory'
  | 'imported-table'
  | 'imported-global'
  | 'import-type'
  | 'threads'
  | 'shared-memory'
  | 'memory64'
  | 'second-memory'
  | 'exceptions'
  | 'garbage-collection'
  | 'tail-calls'
  | 'typed-references'
  | 'relaxed-simd'
  | 'opcode'
  | 'custom-page-size'
  | 'reserved-export'
  | 'start-function'
  | 'limit'
  | 'memory-size'
  | 'table-size'
  | 'abi'
  | 'export-missing'
  | 'export-type'
  | 'manifest'

/** A module that the binary pass does not let in. The message names what was found and why it is not let in. */
export class ModuleRefusal extends Error {
  override readonly name = 'ModuleRefusal'
  readonly kind: RefusalKind

  constructor(kind: RefusalKind, message: string) {
    super(message)
    this.kind = kind
  }
}
