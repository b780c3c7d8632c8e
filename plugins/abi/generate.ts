import { generateAssembly } from './generate-assembly.ts'
import { generateC } from './generate-c.ts'
import { generateCalls } from './generate-calls.ts'
import { generateDocs } from './generate-docs.ts'
import { generateGates } from './generate-gates.ts'
import { generateHost } from './generate-host.ts'
import { policyIdl } from './idl.ts'
import type { Idl } from './idl-language.ts'
import { type Layout, placeStructs } from './layout.ts'

/** What is written from the IDL, by path in the repository. */
export function generateAll(idl: Idl = policyIdl): Readonly<Record<string, string>> {
  const layout = placeStructs(idl)
  return {
    'plugins/host/generated/policy-structs.ts': generateHost(layout),
    'plugins/host/generated/gate-shapes.ts': generateGates(layout),
    'plugins/host/generated/hook-calls.ts': generateCalls(layout),
    'plugins/pdk/assembly/structs.ts': generateAssembly(layout),
    'plugins/pdk/c/pando_policy.h': generateC(layout),
    'plugins/abi/STRUCTS.md': generateDocs(layout),
  }
}

/** Where each field lies, for the record of what was released: these lines may only be added to. */
export function describeLayout(layout: Layout): Readonly<Record<string, readonly string[]>> {
  const structs = [
    layout.header,
    ...layout.hooks.flatMap(({ input, items, output, outputItems }) =>
      [input, items, output, outputItems].flatMap((placed) => placed ?? []),
    ),
  ]
  const enums = Object.entries(layout.idl.enums).map(([name, { values }]) => [name, values] as const)
  return Object.fromEntries([
    ...enums,
    ...structs.map(
      ({ spec, fields }) =>
        [
          spec.name,
          fields.map((field) => `${field.offset} ${field.spec.type} ${field.byteLength} ${field.spec.name}`),
        ] as const,
    ),
  ])
}
