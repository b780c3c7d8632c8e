import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { abiNames, policyIdl } from '../../plugins/abi/idl.ts'
import { customSection, listExports, readSections, sectionName } from '../../plugins/abi/module-file.ts'
import { examineModule } from '../../plugins/host/examine-module.ts'
import { ModuleRefusal } from '../../plugins/host/wasm/module-refusal.ts'
import { debugPolicy, type MeteredPolicy } from '../../plugins/kit/metered-policy.ts'
import { readProject } from '../../plugins/kit/policy-project.ts'
import { runVectors, type VectorOutcome } from '../../plugins/kit/run-vectors.ts'
import type { GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { explained, meterNamed, type NamedModule, readModule, vectorsOf } from './policy-module.ts'
import { compile } from './policy-project.ts'
import { facts, printable, type Terminal, table } from './terminal.ts'

/** Exit code 7 when a node would refuse it, or a golden vector does not hold. */
export async function inspectPolicy(
  terminal: Terminal,
  options: GlobalOptions,
  name?: string,
): Promise<number> {
  const named = readModule(terminal, name)
  const report = inspect(named)
  if (options.json === true) terminal.out(`${JSON.stringify(report)}\n`)
  else terminal.out(describe(report))
  return !('refusal' in report) && report.failedVectors === 0 ? exitCodes.ok[0] : exitCodes.findings[0]
}

function inspect(named: NamedModule) {
  const { path, wasm } = named
  const digest = createHash('sha256').update(wasm).digest('hex')
  const signature = existsSync(`${path}.sig`) ? readSigner(`${path}.sig`) : undefined
  const found = { path, digest, byteLength: wasm.length, ...(signature === undefined ? {} : { signature }) }
  try {
    const { manifest, abi, hooks, imports, warnings } = examineModule(wasm)
    const policy = meterNamed(named)
    const outcomes = runVectors(policy, vectorsOf(named))
    const fuel = Object.fromEntries(
      hooks.map((hook) => [
        hook,
        Math.max(0, ...outcomes.filter((each) => each.hook === hook).map((each) => each.fuel)),
      ]),
    )
    const failed = outcomes.filter(({ difference }) => difference !== undefined)
    const sections = readSections(wasm).map((section) => ({
      name: sectionName(section) ?? sectionNames[section.id] ?? String(section.id),
      byteLength: section.content.length,
    }))
    return {
      ...found,
      manifest,
      abi: `${abi.major}.${abi.minor}`,
      hooks,
      imports,
      exports: listExports(wasm),
      sections,
      fuelSites: policy.fuelSites,
      fuel,
      vectors: outcomes.length,
      failedVectors: failed.length,
      warnings,
    }
  } catch (error) {
    if (!(error instanceof ModuleRefusal)) throw error
    return { ...found, refusal: error.message, kind: error.kind, failedVectors: 0 }
  }
}

const sectionNames: Readonly<Record<number, string>> = {
  1: 'types',
  2: 'imports',
  3: 'functions',
  4: 'tables',
  5: 'memory',
  6: 'globals',
  7: 'exports',
  8: 'start',
  9: 'elements',
  10: 'code',
  11: 'data',
  12: 'data count',
}

function readSigner(path: string): string {
  try {
    const { publicKey }: { publicKey?: unknown } = JSON.parse(readFileSync(path, 'utf8'))
    return typeof publicKey === 'string' ? publicKey : 'not readable'
  } catch {
    return 'not readable'
  }
}

function describe(report: ReturnType<typeof inspect>): string {
  const head: (readonly [string, string])[] = [
    ['File', report.path],
    ['Digest', report.digest],
    ['Size', `${report.byteLength} bytes`],
  ]
  if ('refusal' in report) {
    return `${facts(head)}\nA node would refuse it (${report.kind}): ${printable(report.refusal ?? '')}\n`
  }
  const { manifest, hooks, fuel } = report
  const budgets = Object.fromEntries(policyIdl.hooks.map(({ name, fuel: budget }) => [name, budget]))
  const asked = (hook: string) => {
    const most = fuel[hook] ?? 0
    return most === 0
      ? `${hook} (no vector asks it)`
      : `${hook} (at most ${most} of ${budgets[hook]} fuel in its vectors)`
  }
  return facts([
    ...head,
    ['Policy', `${manifest.name} ${manifest.version}`],
    ...(manifest.description === undefined ? [] : [['About', manifest.description] as const]),
    ['ABI', report.abi],
    ['Hooks', hooks.map(asked).join(', ') || 'none'],
    ['Imports', report.imports.join(', ') || 'none'],
    ['Exports', report.exports.join(', ')],
    ['Sections', report.sections.map(({ name, byteLength }) => `${name} ${byteLength}`).join(', ')],
    ['Fuel sites', String(report.fuelSites)],
    ['Vectors', `${report.vectors - report.failedVectors} of ${report.vectors} hold`],
    ['Signature', report.signature ?? 'none'],
  ]).concat(report.warnings.map((warning) => `warning: ${printable(warning)}\n`).join(''))
}

export interface TestOptions extends GlobalOptions {
  readonly debug?: boolean
}

/** Exit code 7 when a vector does not hold, or when there is none. */
export async function testPolicy(terminal: Terminal, options: TestOptions, name?: string): Promise<number> {
  const named = options.debug === true ? await buildDebug(terminal, name) : readModule(terminal, name)
  const policy: MeteredPolicy = options.debug === true ? await debugPolicy(named.wasm) : meterNamed(named)
  const lines: string[] = []
  const outcomes = runVectors(policy, vectorsOf(named), { onLog: (_, text) => void lines.push(text) })
  const failed = outcomes.filter(({ difference }) => difference !== undefined)
  if (options.json === true) {
    terminal.out(
      `${JSON.stringify({ passed: outcomes.length - failed.length, failed: failed.length, vectors: outcomes })}\n`,
    )
  } else {
    for (const line of lines.slice(0, 100)) terminal.err(`log: ${printable(line)}\n`)
    terminal.out(report(outcomes))
    terminal.out(`\n${outcomes.length - failed.length} passed, ${failed.length} failed\n`)
  }
  if (outcomes.length === 0)
    terminal.err('pando: the module carries no golden vectors: write some into vectors.json\n')
  return failed.length === 0 && outcomes.length > 0 ? exitCodes.ok[0] : exitCodes.findings[0]
}

function report(outcomes: readonly VectorOutcome[]): string {
  if (outcomes.length === 0) return ''
  return table(
    [{ title: '' }, { title: 'hook' }, { title: 'fuel', align: 'right' }, { title: 'vector' }],
    outcomes.map(({ difference, hook, fuel, name }) => [
      difference === undefined ? 'ok' : 'FAILED',
      hook,
      String(fuel),
      difference === undefined ? name : `${name}: ${difference}`,
    ]),
  )
}

async function buildDebug(terminal: Terminal, folder = '.'): Promise<NamedModule> {
  const project = explained(() => readProject(resolve(terminal.workingDirectory, folder)))
  const { wasm } = await compile(project, { debug: true })
  return { path: `${project.name} (debug)`, wasm: new Uint8Array(wasm) }
}

/** The manifest of a module, for commands that only want its name. */
export function manifestText(wasm: Uint8Array): string {
  return new TextDecoder().decode(customSection(wasm, abiNames.manifestSection) ?? new Uint8Array())
}
