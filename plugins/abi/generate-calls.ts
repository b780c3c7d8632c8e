import { inputStores } from './generate-gates.ts'
import { banner, presetOutputItem, readerParameters, views, writeItem } from './generate-host.ts'
import { hookStatus } from './idl.ts'
import { type Layout, type PlacedHook, pascal } from './layout.ts'

/**
 * The host's hot path, written out once for each hook. A function that five hooks share has one set of type feedback in V8, even as
 * five closures; what it calls differs, so nothing is inlined, and a decision takes about half as long again. Code of its own for
 * each hook is what keeps a call cheap; it is generated, so that it cannot differ in more than the hook.
 */
export function generateCalls(layout: Layout): string {
  const { hooks, idl } = layout
  const bodies = hooks.map((hook) => calls(layout, hook)).join('\n')
  const used = (names: readonly string[]) => names.filter((name) => new RegExp(`\\b${name}\\b`).test(bodies))
  const names = hooks.map(({ spec }) => pascal(spec.name))
  return `${banner('//')}
import type { ${[...names.flatMap((name) => [`${name}Decision`, `${name}Input`]), ...hooks.flatMap(({ items }) => items?.spec.name ?? [])].join(', ')} } from '../../../core/contract/policy.ts'
import { writeBytes, writeText } from '../../abi/guest-memory.ts'
import { occupy } from '../guest-door.ts'
import { abstained, beginSample, type HookRunner, invalid, refused, sampled, trapped } from '../hook-runner.ts'
import { canaryBucket, compareShadow, type Serving } from '../serving-chain.ts'
import { ${[...used(Object.keys(idl.enums).map((name) => `number${name}`)), ...names.map((name) => `read${name}Decision`)].join(', ')} } from './policy-structs.ts'

${bodies}`
}

function calls(layout: Layout, hook: PlacedHook): string {
  const { name } = hook.spec
  const upper = pascal(name)
  const also: Readonly<Record<string, string>> = {
    'count: number': `, input.${hook.items?.spec.property ?? ''}.length`,
    'classCount: number': ', runner.classCount',
  }
  const told = readerParameters(hook)
    .map((parameter) => also[parameter] ?? '')
    .join('')
  return `/** Asks one version for \`${name}\`. Never throws. \`undefined\` = no decision: the next in the chain is asked. */
export function ask${upper}(runner: HookRunner<'${name}'>, input: ${upper}Input): ${upper}Decision | undefined {
  const { port, seat, counters, result } = runner
  if (port === undefined) return undefined
  const left = counters.left - 1
  counters.left = left
  const isSampled = left === 0
  const startMs = isSampled ? beginSample(runner) : 0
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
${handOver(layout, hook)}    if (status !== ${hookStatus.decided}) {
      if (status !== ${hookStatus.abstain}) refused(runner, status)
      return abstained(runner, isSampled, startMs, input)
    }
    const problem = read${upper}Decision(memory${told}, result)
    if (problem !== undefined) {
      invalid(runner, problem)
      return undefined
    }
  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  counters.countReason(result.reason)
  if (isSampled) sampled(runner, startMs, input, result)
  return result
}

/** The decision of the first in the chain that has one, else of the fallback. */
export function decide${upper}(serving: Serving, input: ${upper}Input): ${upper}Decision {
  const chain = serving.chains.${name}
  let decision: ${upper}Decision | undefined
  let shadow: HookRunner<'${name}'> | undefined
  for (let at = 0; at < chain.length && decision === undefined; at += 1) {
    const link = chain[at] as (typeof chain)[number]
    const { stable } = link
    if (link.canary !== undefined && canaryBucket(input.requestHash) < link.canaryPercent) {
      decision = ask${upper}(link.canary, input)
      // A canary that abstains has answered; one that trapped or tripped is stood in for.
      if (decision !== undefined || link.canary.port !== undefined) continue
    }
    if (stable !== undefined) decision = ask${upper}(stable, input)
    if (decision === undefined && link.previous !== undefined && stable?.port === undefined) {
      decision = ask${upper}(link.previous, input)
    }
    shadow ??= link.shadow
  }
  if (decision === undefined) {
    serving.fallbackCalls.${name} += 1
    decision = serving.fallbacks.${name}(input)
  }
  if (shadow !== undefined) compareShadow(shadow, ask${upper}, decision, input)
  return decision
}
`
}

/** The lines that bring the input into the guest's memory and call the hook. */
function handOver(layout: Layout, hook: PlacedHook): string {
  const { spec, input, items, output, outputItems } = hook
  const abstain = 'return abstained(runner, isSampled, startMs, input)'
  const fields = input.fields.flatMap(({ spec: field, offset }) => {
    if (field.kind === 'array')
      return [
        `const ${field.name} = input.${field.name}`,
        `const ${field.countField} = Math.min(${field.name}.length, ${field.length})`,
      ]
    if (field.kind !== 'text') return []
    return [
      'memory.reattach()',
      `const ${field.property} = writeText(memory, memory.input + ${offset}, ${field.length}, input.${field.property})`,
    ]
  })
  const blobs = items?.fields.some(({ spec: field }) => field.kind === 'blob') === true
  const afterItems = items
    ? `${input.byteLength} + itemCount * ${items.byteLength}`
    : String(input.byteLength)
  const itemLines = writeItem(hook, abstain)
  const presetLines = presetOutputItem(hook)
  const stored = inputStores(layout, hook).flatMap(({ value }) => (typeof value === 'number' ? [] : [value]))
  const lines = [
    ...fields,
    ...(items
      ? [
          `const items = input.${items.spec.property}`,
          'const itemCount = items.length',
          "// Too many items for the structs of this version: nobody's fault, and not the policy's to decide.",
          `if (itemCount > ${items.spec.most}) ${abstain}`,
          'memory.reattach()',
          `const { ${views([...itemLines, ...presetLines].join('\n')).join(', ')} } = memory`,
          'const at = memory.input',
          ...(blobs ? [`let blob = ${afterItems}`] : []),
          ...(presetLines.length > 0 ? ['const out = memory.output'] : []),
          'for (let index = 0; index < itemCount; index += 1) {',
          `  const item = items[index] as ${items.spec.name}`,
          `  const to = at + ${input.byteLength} + index * ${items.byteLength}`,
          ...itemLines.map((line) => `  ${line}`),
          '}',
        ]
      : []),
    ...(outputItems
      ? [
          'for (let index = 0; index < itemCount; index += 1) {',
          `  const to = out + ${output.byteLength} + index * ${outputItems.byteLength}`,
          ...presetLines.map((line) => `  ${line}`),
          '}',
        ]
      : []),
    `const status = seat.doors.${spec.name}(seat.slot, memory.input, ${blobs ? 'blob' : afterItems}, memory.output, ${stored.join(', ')})`,
  ]
  return lines.map((line) => `    ${line}\n`).join('')
}
