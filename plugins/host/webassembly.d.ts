/**
 * The part of the WebAssembly JavaScript API that Pando uses. TypeScript ships it in its browser library only, which would bring
 * `window` and all its kin into a server's scope. Source: WebAssembly JavaScript Interface, W3C.
 */
declare namespace WebAssembly {
  class Module {
    constructor(bytes: Uint8Array)
    static exports(module: Module): { name: string; kind: 'function' | 'global' | 'memory' | 'table' }[]
    static imports(module: Module): { module: string; name: string; kind: string }[]
    static customSections(module: Module, name: string): ArrayBuffer[]
  }
  class Instance {
    constructor(module: Module, imports?: Imports)
    readonly exports: Exports
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum?: number })
    readonly buffer: ArrayBuffer
    grow(pages: number): number
  }
  class Table {
    readonly length: number
    set(index: number, value: Exported | null): void
  }
  class Global {
    readonly value: unknown
  }
  class CompileError extends Error {}
  class LinkError extends Error {}
  class RuntimeError extends Error {}

  // biome-ignore lint/complexity/noBannedTypes: what an instance exports is any function until its type has been looked at
  type Exported = Function | Memory | Table | Global
  type Exports = Readonly<Record<string, Exported>>
  type Imports = Readonly<Record<string, Readonly<Record<string, Exported>>>>

  function validate(bytes: Uint8Array): boolean
  function compile(bytes: Uint8Array): Promise<Module>
}
