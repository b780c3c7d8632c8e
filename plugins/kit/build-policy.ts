import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { abiNames, policyIdl } from '../abi/idl.ts'
import {
  hasStartFunction,
  listExports,
  withCustomSections,
  withExportedConstant,
  withoutTrivialStart,
} from '../abi/module-file.ts'
import { parseVectors } from '../abi/vectors.ts'
import { type PolicyProject, ProjectProblem, parseJsonFile } from './policy-project.ts'

export interface BuiltPolicy {
  readonly wasm: Uint8Array
  readonly hooks: readonly string[]
  /** Golden vectors that travel with it. */
  readonly vectorCount: number
}

export interface BuildOptions {
  /** With names and source lines in traps; not for a host. */
  readonly debug?: boolean
  /** asconfig.json to compile with; default the project's own. */
  readonly asconfig?: string
}

/**
 * Compiles a project and makes the module a policy. The same sources give the same bytes.
 * @throws ProjectProblem with the compiler's words when it does not compile
 */
export async function buildPolicy(project: PolicyProject, options: BuildOptions = {}): Promise<BuiltPolicy> {
  const compiled =
    project.module === undefined
      ? await compileAssembly(project, options)
      : readFileSync(join(project.folder, project.module))
  return finishPolicy(compiled, project)
}

/** Adds what a host reads before it runs anything: version of the ABI, manifest, golden vectors. */
export function finishPolicy(compiled: Uint8Array, project: PolicyProject): BuiltPolicy {
  let wasm = withoutTrivialStart(compiled)
  const { major, minor } = policyIdl
  wasm = withExportedConstant(wasm, abiNames.version, (major << 16) | minor)
  const exported = listExports(wasm)
  const hooks = policyIdl.hooks
    .map(({ name }) => name)
    .filter((name) => exported.includes(abiNames.hookPrefix + name))
  const vectorsPath = join(project.folder, project.vectors)
  const vectors = existsSync(vectorsPath) ? encode(parseJsonFile(vectorsPath)) : undefined
  const read = vectors && parseVectors(vectors)
  if (read && 'problem' in read) throw new ProjectProblem(`${project.vectors}: ${read.problem}`)
  const { name, version, manifest } = project
  const start = hasStartFunction(wasm) ? { start: true } : {}
  const sections: Record<string, Uint8Array> = {
    [abiNames.manifestSection]: encode({ name, version, hooks, ...manifest, ...start }),
  }
  if (vectors) sections[abiNames.vectorsSection] = vectors
  return {
    wasm: withCustomSections(wasm, sections, ['sourceMappingURL', 'producers', 'target_features']),
    hooks,
    vectorCount: read?.vectors.length ?? 0,
  }
}

const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))

/** Writes the result where the project wants it; returns the path. */
export function writePolicy({ folder, output }: PolicyProject, wasm: Uint8Array): string {
  const path = resolve(folder, output)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, wasm)
  return path
}

/** The compiler's own interface; its types would pull in the whole compiler's. */
interface Compiler {
  main(
    args: readonly string[],
  ): Promise<{ readonly error: Error | null; readonly stderr: { toString(): string } }>
}

async function compileAssembly(project: PolicyProject, options: BuildOptions): Promise<Uint8Array> {
  const entry = join(project.folder, project.entry)
  if (!existsSync(entry)) throw new ProjectProblem(`there is no ${project.entry} in ${project.folder}`)
  const config = options.asconfig ?? join(project.folder, 'asconfig.json')
  const compiler = await loadCompiler(project.folder)
  const scratch = mkdtempSync(join(tmpdir(), 'pando-policy-'))
  try {
    const outFile = join(scratch, 'policy.wasm')
    // The compiler names sources by their path from the base directory, and mangles names by it: with the folder as the base,
    // the result does not depend on where the project lies.
    const target = options.debug === true ? 'debug' : 'release'
    const fromBase = (path: string) => relative(project.folder, path)
    const args = [
      fromBase(entry),
      '--baseDir',
      project.folder,
      '--target',
      target,
      '--outFile',
      fromBase(outFile),
    ]
    const { error, stderr } = await compiler.main([...args, '--config', fromBase(config)])
    if (error !== null) throw new ProjectProblem(`${stderr.toString().trim() || error.message}`)
    return readFileSync(outFile)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** The project's own compiler, else the one that this kit came with. */
async function loadCompiler(folder: string): Promise<Compiler> {
  for (const from of [join(resolve(folder), 'package.json'), import.meta.url]) {
    try {
      // Its entry is for imports only, which createRequire does not look at.
      const manifest = createRequire(from).resolve('assemblyscript/package.json')
      const path = join(dirname(manifest), 'dist/asc.js')
      const loaded: { default: Compiler } = await import(pathToFileURL(path).href)
      return loaded.default
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && String(error.code).includes('NOT_FOUND')))
        throw error
    }
  }
  throw new ProjectProblem("the package 'assemblyscript' is not installed: run 'npm install' in the project")
}
