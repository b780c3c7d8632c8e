import { abiBounds } from '../../abi/idl.ts'

/**
 * What a policy may cost before it has run: each bound keeps the time to check and compile a stranger's module, and the memory
 * that its instances hold, small enough to load it while requests run.
 */
export interface ModuleLimits {
  readonly moduleBytes: number
  readonly functions: number
  readonly bodyBytes: number
  /** Parameters not counted. */
  readonly locals: number
  readonly branchTableEntries: number
  readonly nesting: number
  readonly types: number
  readonly globals: number
  readonly exports: number
  /** Active data, which every new instance copies. */
  readonly dataBytes: number
  /** 64 KiB each. */
  readonly memoryPages: number
  readonly tables: number
  readonly tableEntries: number
}

export const moduleLimits: ModuleLimits = {
  moduleBytes: abiBounds.moduleBytes,
  functions: 10_000,
  bodyBytes: 128 << 10,
  locals: 4_096,
  branchTableEntries: 4_096,
  nesting: 1_024,
  types: 2_048,
  globals: 2_048,
  exports: 1_024,
  dataBytes: 512 << 10,
  memoryPages: 64,
  tables: 8,
  tableEntries: 10_000,
}

export const pageBytes = 65_536
