import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { PolicyHook } from '../../core/contract/policy.ts'
import { abiNames } from '../abi/idl.ts'
import { createInputReader, defaultTables, type PolicyTables } from '../abi/json-values.ts'
import { customSection } from '../abi/module-file.ts'
import { parseVectors } from '../abi/vectors.ts'
import { meteredPolicy } from './metered-policy.ts'
import { type Answer, PolicyInstance } from './open-policy.ts'
import { readProject } from './policy-project.ts'
import { runVectors, type VectorOutcome } from './run-vectors.ts'

/** For an author's tests: `const policy = openPolicy({ settings: { limit: 3 } })`. */
export interface TestedPolicy {
  /**
   * Asks a hook. The input is JSON as in the golden vectors: what is left out has a default, classes and tenants may be
   * given by name. Throws Error when the input is not valid; a trap or a decision that is not valid is an answer.
   */
  ask(hook: PolicyHook, input?: object): Answer
}

export interface OpenProjectOptions {
  /** Folder with policy.json; default the working directory. */
  readonly folder?: string
  readonly settings?: Readonly<Record<string, unknown>>
  readonly tables?: Partial<PolicyTables>
}

/** Opens the module that the project has built. Throws when the policy refuses the settings, with its own words. */
export function openPolicy({
  folder = '.',
  settings = {},
  tables: given = {},
}: OpenProjectOptions = {}): TestedPolicy {
  const tables = { ...defaultTables, ...given }
  const instance = new PolicyInstance(meteredPolicy(readBuilt(folder)), { settings, tables })
  const reader = createInputReader(tables)
  return {
    ask(hook, input = {}) {
      const read = reader.read(hook, input)
      if ('problem' in read) throw new Error(read.problem)
      return instance.ask(hook, read)
    },
  }
}

/** Asks every golden vector in the module that the project has built. */
export function checkVectors({
  folder = '.',
}: Pick<OpenProjectOptions, 'folder'> = {}): readonly VectorOutcome[] {
  const wasm = readBuilt(folder)
  const file = parseVectors(
    customSection(wasm, abiNames.vectorsSection) ?? new TextEncoder().encode('{"vectors":[]}'),
  )
  if ('problem' in file) throw new Error(file.problem)
  return runVectors(meteredPolicy(wasm), file)
}

function readBuilt(folder: string): Uint8Array {
  const { output } = readProject(folder)
  const path = resolve(folder, output)
  if (!existsSync(path)) throw new Error(`${path} is not there: build the policy first (npm run build)`)
  return new Uint8Array(readFileSync(path))
}
