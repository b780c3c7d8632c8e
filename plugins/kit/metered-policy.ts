import { abiBounds } from '../abi/idl.ts'
import { exportFuel, exportRefuel, meterModule } from '../host/wasm/meter-module.ts'
import { parseModule } from '../host/wasm/parse-module.ts'

/** A policy that is ready to be instantiated, and how its fuel is handled. */
export interface MeteredPolicy {
  readonly module: WebAssembly.Module
  /** Places where fuel is charged. */
  readonly fuelSites: number
  refuel(instance: Pick<WebAssembly.Instance, 'exports'>, fuel: number): void
  /** Below 0 = it has run out. */
  fuelLeft(instance: Pick<WebAssembly.Instance, 'exports'>): number
  /** What a debug build imports beside the log; a host would refuse it. */
  debugImports?(memory: () => WebAssembly.Memory | undefined): WebAssembly.Imports
}

/**
 * With the fuel of a live host: the same pass, so the same numbers.
 * @throws ModuleRefusal where a host would refuse the module; Error when it is not valid
 */
export function meteredPolicy(bytes: Uint8Array): MeteredPolicy {
  if (!WebAssembly.validate(bytes)) throw new Error('this is not a valid WebAssembly module')
  const { bytes: metered, sites } = meterModule(parseModule(bytes), { startFuel: abiBounds.initialiseFuel })
  const call = (instance: Pick<WebAssembly.Instance, 'exports'>, name: string, ...args: number[]): number => {
    const found = instance.exports[name]
    return typeof found === 'function' ? Number((found as (...all: number[]) => unknown)(...args)) : 0
  }
  return {
    module: new WebAssembly.Module(metered),
    fuelSites: sites,
    refuel: (instance, fuel) => void call(instance, exportRefuel, fuel),
    fuelLeft: (instance) => call(instance, exportFuel),
  }
}

/** Without fuel: an endless loop is endless. For debug builds, whose imports the host's pass refuses. */
export function plainPolicy(bytes: Uint8Array<ArrayBuffer>): MeteredPolicy {
  return {
    module: new WebAssembly.Module(bytes),
    fuelSites: 0,
    refuel: () => undefined,
    fuelLeft: () => 0,
  }
}
