import type { PolicyHook } from '../../core/contract/policy.ts'
import type { PolicyManifest } from '../../core/contract/policy-deployment.ts'
import { abiNames, policyIdl } from '../abi/idl.ts'
import { briefGateShapes } from './generated/gate-shapes.ts'
import { briefExport, hookExport, policyHooks } from './hook-names.ts'
import { parseManifest } from './manifest.ts'
import { manifestSection } from './module-sections.ts'
import { gateParameters } from './wasm/gate.ts'
import { valueType } from './wasm/instructions.ts'
import { type ModuleLimits, moduleLimits } from './wasm/limits.ts'
import { meterModule } from './wasm/meter-module.ts'
import { ModuleRefusal } from './wasm/module-refusal.ts'
import { importLog, importModule, type ParsedModule, parseModule } from './wasm/parse-module.ts'

/** What this host speaks: it runs policies of this major version, of any minor. */
export const hostAbi = { major: policyIdl.major, minor: policyIdl.minor }

/** A module that may become a policy. */
export interface ExaminedModule {
  readonly parsed: ParsedModule
  readonly manifest: PolicyManifest
  readonly abi: { readonly major: number; readonly minor: number }
  readonly hooks: readonly PolicyHook[]
  /** Those of them that are asked briefly. */
  readonly brief: readonly PolicyHook[]
  /** Those of these that take a brief question as parameters. */
  readonly byValue: readonly PolicyHook[]
  /** Whether it can say that a configuration leaves it nothing to decide. */
  readonly hasWants: boolean
  readonly imports: readonly string[]
  readonly warnings: readonly string[]
}

/**
 * The stage `validated`: is this a module, of the allowed kind, with the exports of a policy?
 * @throws ModuleRefusal that names what and why
 */
export function examineModule(bytes: Uint8Array, limits: ModuleLimits = moduleLimits): ExaminedModule {
  if (bytes.length > limits.moduleBytes) {
    throw new ModuleRefusal(
      'module-size',
      `the module has ${bytes.length} bytes, more than ${limits.moduleBytes}`,
    )
  }
  // Before anything is appended to it: a module that names a global which is not there yet is invalid now, and would be valid,
  // with the fuel in its hands, after the rewriting.
  if (!WebAssembly.validate(bytes)) throw explainInvalid(bytes, limits)
  const parsed = parseModule(bytes, limits)
  const manifest = parseManifest(parsed.customSections.get(manifestSection))
  if (parsed.startFunction !== undefined && !manifest.start) {
    throw new ModuleRefusal(
      'start-function',
      'the module has a start function and its manifest does not say so ("start": true): work belongs into pando_init',
    )
  }
  const abi = readAbi(parsed, manifest)
  if (parsed.memory === undefined) {
    throw new ModuleRefusal(
      'export-missing',
      'the module has no memory: it must define one and export it as "memory"',
    )
  }
  expectExport(parsed, 'memory', 'memory')
  expectFunction(parsed, 'pando_alloc', ['i32'])
  expectFunction(parsed, 'pando_init', ['i32', 'i32'])
  for (const name of ['pando_error_ptr', 'pando_error_len']) {
    if (parsed.exports.has(name)) expectFunction(parsed, name, [])
  }
  // Before 1.2 such exports meant nothing.
  const hasWants = abi.minor >= 2 && parsed.exports.has(abiNames.wants)
  if (hasWants) expectFunction(parsed, abiNames.wants, ['i32'])
  const hooks = policyHooks.filter((hook) => parsed.exports.has(hookExport(hook)))
  for (const hook of hooks) expectFunction(parsed, hookExport(hook), ['i32', 'i32', 'i32', 'i32'])
  const brief = hooks.filter((hook) => manifest.brief?.includes(hook) === true)
  const byValue = abi.minor < 2 ? [] : hooksByValue.filter((hook) => parsed.exports.has(briefExport(hook)))
  for (const hook of byValue) {
    if (!brief.includes(hook)) {
      throw new ModuleRefusal(
        'manifest',
        `the module exports ${briefExport(hook)}, and its manifest does not name ${hook} in "brief"`,
      )
    }
    // The gate's own, without the address of the input.
    expectFunction(parsed, briefExport(hook), gateParameters(briefGateShapes[hook]).slice(1).map(typeName))
  }
  return {
    parsed,
    manifest,
    abi,
    hooks,
    brief,
    byValue,
    hasWants,
    imports: parsed.importedFunctions > 0 ? [`${importModule}.${importLog}`] : [],
    warnings: compareWithManifest(parsed, manifest, hooks, [
      ...byValue.map(briefExport),
      ...(hasWants ? [abiNames.wants] : []),
    ]),
  }
}

/** The engine says where it stumbled; a feature that we refuse by name is more use to an author. */
function explainInvalid(bytes: Uint8Array, limits: ModuleLimits): ModuleRefusal {
  try {
    meterModule(parseModule(bytes, limits), { limits })
  } catch (reason) {
    if (reason instanceof ModuleRefusal && reason.kind !== 'malformed') return reason
  }
  let why = 'no more is known'
  try {
    new WebAssembly.Module(bytes)
  } catch (reason) {
    if (reason instanceof Error) why = reason.message.replace(/^WebAssembly\.Module\(\): /, '')
  }
  return new ModuleRefusal('invalid', `this is not a valid WebAssembly module: ${why}`)
}

function readAbi(parsed: ParsedModule, manifest: PolicyManifest): ExaminedModule['abi'] {
  const entry = parsed.exports.get('pando_abi')
  const value = entry?.kind === 'global' ? parsed.constants[entry.index] : undefined
  if (value === undefined) {
    throw new ModuleRefusal(
      'abi',
      `the module does not export the constant i32 global pando_abi (${hostAbi.major} << 16 | minor): which ABI it speaks is read before it runs`,
    )
  }
  const abi = { major: value >>> 16, minor: value & 0xffff }
  if (abi.major !== hostAbi.major) {
    throw new ModuleRefusal(
      'abi',
      `the module speaks version ${abi.major}.${abi.minor} of the ABI, this host ${hostAbi.major}.${hostAbi.minor}`,
    )
  }
  const [major = 0, minor = 0] = (manifest.minHost ?? '1.0').split('.').map(Number)
  if (major !== hostAbi.major || minor > hostAbi.minor) {
    throw new ModuleRefusal(
      'abi',
      `the manifest wants a host of version ${major}.${minor} at least (minHost), this one is ${hostAbi.major}.${hostAbi.minor}`,
    )
  }
  return abi
}

function expectExport(parsed: ParsedModule, name: string, kind: 'function' | 'memory'): number {
  const entry = parsed.exports.get(name)
  if (entry === undefined) {
    throw new ModuleRefusal('export-missing', `the module does not export the ${kind} ${name}`)
  }
  if (entry.kind !== kind) {
    throw new ModuleRefusal(
      'export-type',
      `the module exports ${name} as a ${entry.kind}: it has to be a ${kind}`,
    )
  }
  return entry.index
}

const hooksByValue = policyIdl.hooks.filter(({ byValue }) => byValue === true).map(({ name }) => name)

const typeName = (type: number): string =>
  Object.entries(valueType).find(([, code]) => code === type)?.[0] ?? 'another type'

/** All functions of the ABI return an i32. */
function expectFunction(parsed: ParsedModule, name: string, parameters: readonly string[]): void {
  const index = expectExport(parsed, name, 'function')
  const type = parsed.types[parsed.functions[index] ?? -1]
  const isRight =
    type?.results.length === 1 &&
    type.results[0] === valueType.i32 &&
    type.parameters.map(typeName).join() === parameters.join()
  if (isRight) return
  throw new ModuleRefusal(
    'export-type',
    `the module exports ${name} with another type than (${parameters.join(', ')}) -> i32`,
  )
}

function compareWithManifest(
  parsed: ParsedModule,
  manifest: PolicyManifest,
  hooks: readonly PolicyHook[],
  optional: readonly string[],
): readonly string[] {
  for (const hook of policyHooks) {
    const isExported = hooks.includes(hook)
    if (isExported === manifest.hooks.includes(hook)) continue
    throw new ModuleRefusal(
      'manifest',
      isExported
        ? `the module exports ${hookExport(hook)}, and its manifest does not name the hook ${hook}`
        : `the manifest names the hook ${hook}, and the module does not export ${hookExport(hook)}`,
    )
  }
  for (const hook of manifest.brief ?? []) {
    if (manifest.hooks.includes(hook)) continue
    throw new ModuleRefusal(
      'manifest',
      `the manifest wants brief questions for ${hook}, which is none of its hooks`,
    )
  }
  const known: ReadonlySet<string> = new Set(policyHooks)
  const newer = manifest.hooks.filter((hook) => !known.has(hook))
  const expected = new Set([
    'pando_alloc',
    'pando_init',
    'pando_abi',
    'pando_error_ptr',
    'pando_error_len',
    ...optional,
  ])
  const strangers = [...parsed.exports.keys()].filter(
    (name) => name.startsWith('pando_') && !expected.has(name) && !known.has(name.slice(6)),
  )
  return [
    ...(hooks.length === 0 ? ['no hook of this host is exported: the policy decides nothing'] : []),
    ...newer.map((hook) => `the hook ${hook} is not known to this host: it is not called`),
    ...strangers.map((name) => `the export ${name} is not part of the ABI that this host speaks`),
  ]
}
