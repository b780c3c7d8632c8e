import { existsSync, readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { abiNames } from '../../plugins/abi/idl.ts'
import { defaultTables } from '../../plugins/abi/json-values.ts'
import { customSection } from '../../plugins/abi/module-file.ts'
import { parseVectors, type VectorFile } from '../../plugins/abi/vectors.ts'
import { type MeteredPolicy, meteredPolicy } from '../../plugins/kit/metered-policy.ts'
import { ProjectProblem, parseJsonFile, readProject } from '../../plugins/kit/policy-project.ts'
import { StorageError } from '../contract/errors.ts'
import type { Terminal } from './terminal.ts'

/** A module that a command line names. */
export interface NamedModule {
  readonly path: string
  readonly wasm: Uint8Array<ArrayBuffer>
}

/** The file, or what the project in the folder has built. INVALID_ARGUMENT with what to do. */
export function readModule(terminal: Terminal, name = '.'): NamedModule {
  const named = resolve(terminal.workingDirectory, name)
  if (!existsSync(named)) throw new StorageError('INVALID_ARGUMENT', `there is no ${named}`)
  const path = statSync(named).isDirectory() ? builtModule(named) : named
  return { path, wasm: new Uint8Array(readFileSync(path)) }
}

function builtModule(folder: string): string {
  const project = explained(() => readProject(folder))
  const path = resolve(folder, project.output)
  if (!existsSync(path))
    throw new StorageError('INVALID_ARGUMENT', `${path} is not built yet: run 'pando policy build'`)
  return path
}

/** What the author did wrong becomes an error of the command line. */
export function explained<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw error instanceof ProjectProblem
      ? new StorageError('INVALID_CONFIG', error.message, { cause: error })
      : error
  }
}

/** The module as a node would run it. */
export function meterNamed({ path, wasm }: NamedModule): MeteredPolicy {
  try {
    return meteredPolicy(wasm)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError('INVALID_ARGUMENT', `${path}: ${reason}`, { cause: error })
  }
}

/** The golden vectors in the module; none = an empty file. */
export function vectorsOf({ path, wasm }: NamedModule): VectorFile {
  const section = customSection(wasm, abiNames.vectorsSection)
  if (section === undefined) return { tables: defaultTables, vectors: [] }
  const file = parseVectors(section)
  if ('problem' in file) throw new StorageError('INVALID_ARGUMENT', `${path}: ${file.problem}`)
  return file
}

export function readSettings(
  terminal: Terminal,
  file: string | undefined,
  otherwise: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> {
  return file === undefined
    ? otherwise
    : explained(() => parseJsonFile(resolve(terminal.workingDirectory, file)))
}

/** A whole number from the command line. INVALID_ARGUMENT. */
export function wholeNumber(text: string, option: string, least: number, most: number): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < least || value > most)
    throw new StorageError(
      'INVALID_ARGUMENT',
      `${option} is a whole number from ${least} to ${most}, not '${text}'`,
    )
  return value
}
