/** Empty module with a memory: what an instance reserves, it reserves too. */
const probe = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 5, 4, 1, 1, 1, 64)

/**
 * Why this process cannot run policies; undefined = it can. V8 reserves about 10 GB of address space for each instance, which a limit
 * on it (`ulimit -v`, some containers) does not allow. `make` is what is tried: another one in tests.
 */
export function whyUnavailable(
  make: () => unknown = () => new WebAssembly.Instance(new WebAssembly.Module(probe)),
): string | undefined {
  try {
    make()
    return undefined
  } catch (reason) {
    const text = reason instanceof Error ? reason.message : String(reason)
    return (
      `this process cannot make a WebAssembly instance (${text}), so no policy runs and the built-in rules decide. Each instance ` +
      'reserves about 10 GB of address space (not memory): lift the limit on it (ulimit -v unlimited), or start Node with ' +
      '--disable-wasm-trap-handler, which needs none and makes policies slower'
    )
  }
}
