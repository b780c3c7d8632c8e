import { abiBounds } from '../abi/idl.ts'
import { manifestSection } from '../host/module-sections.ts'
import { exportFuel, exportRefuel, meterModule } from '../host/wasm/meter-module.ts'
import { parseModule } from '../host/wasm/parse-module.ts'

/** A policy that is ready to be instantiated, and how its fuel is handled. */
export interface MeteredPolicy {
  /** Places where fuel is charged. */
  readonly fuelSites: number
  /** Hooks that are asked briefly, as the manifest says. */
  readonly brief: readonly string[]
  refuel(instance: Pick<WebAssembly.Instance, 'exports'>, fuel: number): void
  /** Below 0 = it has run out. */
  fuelLeft(instance: Pick<WebAssembly.Instance, 'exports'>): number
  instantiate(imports: WebAssembly.Imports): Pick<WebAssembly.Instance, 'exports'>
}

/**
 * With the fuel of a live host: the same pass, so the same numbers.
 * @throws ModuleRefusal where a host would refuse the module; Error when it is not valid
 */
export function meteredPolicy(bytes: Uint8Array): MeteredPolicy {
  if (!WebAssembly.validate(bytes)) throw new Error('this is not a valid WebAssembly module')
  const parsed = parseModule(bytes)
  const { bytes: metered, sites } = meterModule(parsed, { startFuel: abiBounds.initialiseFuel })
  const module = new WebAssembly.Module(metered)
  return {
    instantiate: (imports) => new WebAssembly.Instance(module, imports),
    fuelSites: sites,
    brief: briefHooks(parsed.customSections.get(manifestSection)),
    refuel: ({ exports }, fuel) => {
      ;(exports[exportRefuel] as (fuel: number) => void)(fuel)
    },
    fuelLeft: ({ exports }) => (exports[exportFuel] as () => number)(),
  }
}

/**
 * A module without a manifest is not yet a policy: what it is asked is whole. A host examines the manifest; here it is the author's own,
 * and a project has none of the libraries that the examination takes.
 */
function briefHooks(section: ArrayBuffer | Uint8Array | undefined): readonly string[] {
  if (section === undefined) return []
  const { brief }: { brief?: unknown } = JSON.parse(new TextDecoder().decode(section))
  return Array.isArray(brief) ? brief.filter((hook) => typeof hook === 'string') : []
}

/** What of `@assemblyscript/loader` is used. */
interface AssemblyScriptLoader {
  instantiateSync(
    module: WebAssembly.Module,
    imports: WebAssembly.Imports,
  ): { readonly exports: WebAssembly.Instance['exports'] }
}

/**
 * A debug build: a failed assertion tells its message, its file and its line, which the loader reads out of the guest's
 * strings. Without fuel, so an endless loop is endless; a host would refuse the import that this needs.
 */
export async function debugPolicy(bytes: Uint8Array<ArrayBuffer>): Promise<MeteredPolicy> {
  const loader = (await import('@assemblyscript/loader')) as unknown as AssemblyScriptLoader
  const module = new WebAssembly.Module(bytes)
  let unspent = 0
  return {
    instantiate: (imports) => loader.instantiateSync(module, imports),
    fuelSites: 0,
    brief: briefHooks(WebAssembly.Module.customSections(module, manifestSection)[0]),
    refuel: (_, fuel) => {
      unspent = fuel
    },
    fuelLeft: () => unspent,
  }
}
