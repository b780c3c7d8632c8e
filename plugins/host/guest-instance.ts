import type { PolicyHook } from '../../core/contract/policy.ts'
import { GuestMemory } from '../abi/guest-memory.ts'
import { abiBounds, abiNames } from '../abi/idl.ts'
import { briefGateShapes, gateShapes } from './generated/gate-shapes.ts'
import { hookShapes } from './generated/policy-structs.ts'
import { briefExport, hookExport, policyHooks } from './hook-names.ts'
import { briefGateName, exportFuel, exportRefuel, type GateOption, gateName } from './wasm/meter-module.ts'

/** A module that has been examined, metered and compiled: what instances are made of. */
export interface CompiledPolicy {
  readonly module: WebAssembly.Module
  readonly hooks: readonly PolicyHook[]
  /** Those that are asked briefly. */
  readonly brief: readonly PolicyHook[]
  /** Those that take a brief question as parameters. */
  readonly byValue: readonly PolicyHook[]
  /** Whether it can say that a configuration leaves it nothing to decide. */
  readonly hasWants: boolean
}

/** One hook of one instance: its gate, and the regions that were allocated for it. */
export interface HookPort {
  readonly gate: WebAssembly.Exported
  /** For brief questions, if the hook wants such. */
  readonly briefGate: WebAssembly.Exported | undefined
  readonly memory: GuestMemory
  readonly fuel: number
  /** The hook itself, for whoever has written its input and filled its tank. */
  readonly hook: (inPtr: number, inLen: number, outPtr: number, outLen: number) => number
  /** What takes a brief question as parameters, behind the address of the output. */
  readonly byValue: ((output: number, ...fields: (number | bigint)[]) => number) | undefined
  readonly outputBytes: number
  readonly refuel: (fuel: number) => void
  /** What the last call left; below 0 it ran out. */
  readonly fuelLeft: () => number
}

/** What the binary pass adds for these hooks. */
export function gatesOf({
  hooks,
  brief,
  byValue,
}: Pick<CompiledPolicy, 'hooks' | 'brief' | 'byValue'>): readonly GateOption[] {
  return [
    ...hooks.map((hook) => ({
      name: gateName(hookExport(hook)),
      hook: hookExport(hook),
      shape: gateShapes[hook],
    })),
    ...brief.map((hook) => ({
      name: briefGateName(hookExport(hook)),
      hook: byValue.includes(hook) ? briefExport(hook) : hookExport(hook),
      shape: briefGateShapes[hook],
      isByValue: byValue.includes(hook),
    })),
  ]
}

export interface GuestInstance {
  /** Hooks in which it always abstains, as it says itself: its configuration leaves it nothing to decide. */
  readonly idle: readonly PolicyHook[]
  readonly ports: Readonly<Partial<Record<PolicyHook, HookPort>>>
}

/** A guest's own line: level 0 debug to 3 error. */
export type GuestLog = (level: number, text: string) => void

type Exported = (...values: number[]) => number

/** Says no to its configuration, or does something that no policy may do while it is set up. */
export class InitialisationRefused extends Error {
  override readonly name = 'InitialisationRefused'
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()
/** A guest that logs in a loop costs the host a comparison for each line beyond. */
const logLinesPerInstance = 100

/**
 * Instantiates, allocates the regions once, and hands over the configuration. Bounded by fuel, not by time: see
 * `runWithin` for the first instance of a stranger's module.
 * @throws InitialisationRefused with the policy's own message; WebAssembly.RuntimeError, RangeError when it traps
 */
export function createGuest(policy: CompiledPolicy, configuration: string, log: GuestLog): GuestInstance {
  let memory: WebAssembly.Memory | undefined
  let logLines = 0
  const { exports } = instantiate(policy.module, {
    pando1: {
      log: (level: number, pointer: number, length: number) => {
        if (memory === undefined || ++logLines > logLinesPerInstance) return
        log(level, readText(memory, pointer, length, abiBounds.logLineBytes))
      },
    },
  })
  // Types were checked when the module was examined.
  memory = exports['memory'] as WebAssembly.Memory
  const fuelLeft = exports[exportFuel] as Exported
  try {
    return setUp(policy, exports, configuration)
  } catch (reason) {
    if (!(reason instanceof WebAssembly.RuntimeError) || fuelLeft() >= 0) throw reason
    throw new InitialisationRefused(
      `it burnt ${abiBounds.initialiseFuel} fuel while it was set up and was stopped: does pando_init end?`,
      { cause: reason },
    )
  }
}

/** Before there are exports nobody can ask for the fuel that is left; `unreachable` is what running out of it looks like. */
function instantiate(module: WebAssembly.Module, imports: WebAssembly.Imports): WebAssembly.Instance {
  try {
    return new WebAssembly.Instance(module, imports)
  } catch (reason) {
    if (!(reason instanceof WebAssembly.RuntimeError) || reason.message !== 'unreachable') throw reason
    throw new InitialisationRefused(
      `its start function burnt ${abiBounds.initialiseFuel} fuel and was stopped, or gave up by itself: does it end? What can wait belongs into pando_init`,
      { cause: reason },
    )
  }
}

function setUp(policy: CompiledPolicy, exports: WebAssembly.Exports, configuration: string): GuestInstance {
  const exported = (name: string) => exports[name] as Exported
  const memory = exports['memory'] as WebAssembly.Memory
  exported(exportRefuel)(abiBounds.initialiseFuel)
  const allocate = (bytes: number) => {
    const address = exported('pando_alloc')(bytes) >>> 0
    if (address === 0) throw new InitialisationRefused(`pando_alloc(${bytes}) gave no memory`)
    return address
  }
  const regions = policy.hooks.map((hook) => ({
    hook,
    input: { address: allocate(hookShapes[hook].inputBytes), byteLength: hookShapes[hook].inputBytes },
    output: { address: allocate(hookShapes[hook].outputBytes), byteLength: hookShapes[hook].outputBytes },
  }))
  initialise(exports, memory, allocate, configuration)
  const ports = regions.map(({ hook, input, output }): [PolicyHook, HookPort] => [
    hook,
    {
      memory: new GuestMemory(memory, { input, output }),
      gate: exported(gateName(hookExport(hook))),
      briefGate: policy.brief.includes(hook) ? exported(briefGateName(hookExport(hook))) : undefined,
      hook: exported(hookExport(hook)),
      byValue: policy.byValue.includes(hook)
        ? (exports[briefExport(hook)] as NonNullable<HookPort['byValue']>)
        : undefined,
      outputBytes: hookShapes[hook].outputBytes,
      refuel: exported(exportRefuel) as unknown as (fuel: number) => void,
      fuel: hookShapes[hook].fuel,
      fuelLeft: exported(exportFuel) as () => number,
    },
  ])
  // What is left of the fuel of its initialisation pays for that.
  const idle = policy.hasWants
    ? policy.hooks.filter((hook) => exported(abiNames.wants)(policyHooks.indexOf(hook)) === 0)
    : []
  return { ports: Object.fromEntries(ports), idle }
}

function initialise(
  exports: WebAssembly.Exports,
  memory: WebAssembly.Memory,
  allocate: (bytes: number) => number,
  configuration: string,
): void {
  const exported = (name: string) => exports[name] as Exported | undefined
  const bytes = encoder.encode(configuration)
  if (bytes.length > abiBounds.configBytes) {
    throw new InitialisationRefused(
      `the configuration has ${bytes.length} bytes, more than ${abiBounds.configBytes}`,
    )
  }
  const address = allocate(bytes.length)
  if (address + bytes.length > memory.buffer.byteLength) {
    throw new InitialisationRefused(`pando_alloc(${bytes.length}) gave memory that there is not`)
  }
  new Uint8Array(memory.buffer).set(bytes, address)
  const status = exported('pando_init')?.(address, bytes.length) ?? 0
  if (status === 0) return
  const pointer = exported('pando_error_ptr')?.()
  const length = exported('pando_error_len')?.()
  const message =
    pointer === undefined || length === undefined
      ? ''
      : readText(memory, pointer, length, abiBounds.errorBytes)
  throw new InitialisationRefused(
    `pando_init refused the configuration (${status})${message === '' ? ', and gave no reason' : `: ${message}`}`,
  )
}

/** A guest's text, wherever it says it is: what is outside its memory is cut off. */
function readText(memory: WebAssembly.Memory, pointer: number, length: number, most: number): string {
  const start = pointer >>> 0
  const end = Math.min(start + Math.min(length >>> 0, most), memory.buffer.byteLength)
  if (start >= end) return ''
  // Control characters of a stranger do not reach a terminal.
  return decoder.decode(new Uint8Array(memory.buffer, start, end - start)).replace(/\p{Cc}/gu, ' ')
}
