import { inputBytesOf, inputStores, spreadItems, wayName } from './generate-gates.ts'
import { banner, readerParameters, views, writeItem } from './generate-host.ts'
import { hookStatus } from './idl.ts'
import { type Layout, type PlacedHook, pascal, placeBriefly } from './layout.ts'
import { packedAnswer, packedFields, packedLimit } from './packed-answer.ts'

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
import { type GuestMemory, writeBytes, writeText } from '../../abi/guest-memory.ts'
import { occupy } from '../guest-door.ts'
import type { HookPort } from '../guest-instance.ts'
import { abstained, beginSample, forget, type HookRunner, invalid, refused, sampled, trapped } from '../hook-runner.ts'
import { canaryBucket, compareShadow, type Serving } from '../serving-chain.ts'
import { ${[...used(Object.keys(idl.enums).map((name) => `number${name}`)), ...names.map((name) => `read${name}Decision`), ...hooks.filter((hook) => packedFields(hook).length > 0).map(({ spec }) => `type ${pascal(spec.name)}Result`), ...hooks.filter(isKept).map(({ spec }) => `create${pascal(spec.name)}Result`)].join(', ')} } from './policy-structs.ts'

${bodies}`
}

function calls(layout: Layout, hook: PlacedHook): string {
  const { name } = hook.spec
  const upper = pascal(name)
  return `/** Asks one version for \`${name}\`. Never throws. \`undefined\` = no decision: the next in the chain is asked. */
export function ask${upper}(runner: HookRunner<'${name}'>, input: ${upper}Input): ${upper}Decision | undefined {
  const { port } = runner
  if (port === undefined) return undefined
  const left = runner.left - 1
  runner.left = left
  if (left === 0) return measure${upper}(runner, port, input)
  return port.briefGate === undefined ? ask${upper}Whole(runner, port, input) : ask${upper}Briefly(runner, port, input)
}

/** One call of many, apart from the others: what only it needs would be kept over the call into the guest in all of them. */
function measure${upper}(runner: HookRunner<'${name}'>, port: HookPort, input: ${upper}Input): ${upper}Decision | undefined {
  const startMs = beginSample(runner)
  const decision = port.briefGate === undefined ? ask${upper}Whole(runner, port, input) : ask${upper}Briefly(runner, port, input)
  // After a trap nothing can be told of the instance.
  if (runner.port === port) sampled(runner, startMs, input, decision)
  return decision
}

${question(layout, hook, false)}
${question(layout, hook, true)}
${packedFields(hook).length > 0 ? `${unpack(hook)}\n${isKept(hook) ? `${keep(hook)}\n` : ''}${settle(hook)}\n` : ''}${decide(name, upper)}`
}

/** One call of the guest. */
function question(layout: Layout, hook: PlacedHook, isBrief: boolean): string {
  const { name } = hook.spec
  const upper = pascal(name)
  const fields = hook.input.byteLength + (hook.items ? hook.items.spec.most * hook.items.byteLength : 0)
  const after = isBrief
    ? `/** And leaves nothing of it behind that a brief question does not have. */
function ask${upper}AfterAll(runner: HookRunner<'${name}'>, port: HookPort, input: ${upper}Input): ${upper}Decision | undefined {
  const decision = ask${upper}Whole(runner, port, input)
  forget(port, ${fields})
  return decision
}

`
    : ''
  const askWhole = isBrief
    ? `if (status === ${hookStatus.askWhole}) return ask${upper}AfterAll(runner, port, input)\n      `
    : ''
  const known = isKept(hook)
    ? `    // Most decisions are one of a few: they are there, and nothing of them has to be written.
    const packed = status ^ ${packedAnswer}
    if (packed >>> 0 < ${packedLimit(packedFields(hook))}${fractionBits(hook) === 0 ? '' : ` && (packed & ${fractionBits(hook)}) === 0`}) {
      counters.countReasonBelow(packed & ${reasonMask(hook)})
      return runner.decisions[packed] ?? keep${upper}(runner, memory, packed)
    }
`
    : ''
  const counted = isKept(hook) ? 'counters' : 'runner.counters'
  const answer =
    packedFields(hook).length > 0
      ? `${known}    if (${isKept(hook) ? 'packed' : `(status ^ ${packedAnswer})`} >>> 0 >= ${packedLimit(packedFields(hook))} || !unpack${upper}(${packedFields(hook).some(({ below }) => below === 0) ? 'memory, ' : ''}status${told(hook, 'input')}, result)) {
      ${askWhole}if (!settle${upper}(runner, memory, status)) return undefined
    }
`
      : `    if (status !== ${hookStatus.decided}) {
      ${askWhole}if (status !== ${hookStatus.abstain}) refused(runner, status)
      return abstained(runner)
    }
    const problem = read${upper}Decision(memory${told(hook, 'input')}, result)
    if (problem !== undefined) return invalid(runner, problem)
`
  return `${after}function ask${upper}${isBrief ? 'Briefly' : 'Whole'}(runner: HookRunner<'${name}'>, port: HookPort, input: ${upper}Input): ${upper}Decision | undefined {
  const { seat, result${isKept(hook) ? ', counters' : ''} } = runner
  try {
    const { memory } = port
    if (seat.occupant !== port) occupy(seat, port)
${handOver(layout, hook, isBrief)}${answer}  } catch (reason) {
    trapped(runner, port, reason)
    return undefined
  }
  ${counted}.countReason(result.reason)
  return result
}
`
}

/** What fits into few numbers is made once for each of them. */
const isKept = (hook: PlacedHook) => packedFields(hook).length > 0 && packedLimit(packedFields(hook)) <= 512

/** Set when a fraction is not 0, which stands in memory then. */
const fractionBits = (hook: PlacedHook) =>
  packedFields(hook).reduce((bits, { below, shift }) => bits | (below === 0 ? 1 << shift : 0), 0)

/** The reason is at the bottom. */
function reasonMask(hook: PlacedHook): number {
  const [first] = packedFields(hook)
  if (first?.field.spec.name !== 'reason')
    throw new Error(`the reason of ${hook.spec.name} is not at the bottom`)
  return first.below - 1
}

function keep(hook: PlacedHook): string {
  const { name } = hook.spec
  const upper = pascal(name)
  return `/** A decision that came for the first time. */
function keep${upper}(runner: HookRunner<'${name}'>, ${fractionBits(hook) === 0 ? '_' : ''}memory: GuestMemory, packed: number): ${upper}Decision {
  const result = create${upper}Result()
  result.policy = runner.result.policy
  unpack${upper}(${fractionBits(hook) === 0 ? '' : 'memory, '}packed, result)
  runner.decisions[packed] = result
  return result
}
`
}

/** What a reader is told besides memory and result. */
function told(hook: PlacedHook, input: string): string {
  const also: Readonly<Record<string, string>> = {
    'count: number': `, ${input}.${hook.items?.spec.property ?? ''}.length`,
    'classCount: number': ', runner.classCount',
  }
  return readerParameters(hook)
    .map((parameter) => also[parameter] ?? '')
    .join('')
}

/** The way of most answers: they fit into the number that the gate gives back, and no memory is looked at. */
function unpack(hook: PlacedHook): string {
  const upper = pascal(hook.spec.name)
  const lines = packedFields(hook).flatMap(({ field, below, shift, values }) => {
    const { spec, offset } = field
    const bits = shift === 0 ? 'answer' : `(answer >>> ${shift})`
    if (below === 0) {
      const { range } = spec.kind === 'number' ? spec : {}
      if (typeof range?.to !== 'number') throw new Error(`${spec.name} has no range`)
      return [
        `if ((${bits} & 1) === 0) result.${spec.name} = 0`,
        'else {',
        `  const ${spec.name} = memory.${spec.type}[(memory.output >>> 3) + ${offset / 8}] as number`,
        `  if (!(${spec.name} >= ${range.from} && ${spec.name} <= ${range.to})) return false`,
        `  result.${spec.name} = ${spec.name}`,
        '}',
      ]
    }
    const number = `${bits} & ${2 ** Math.ceil(Math.log2(below)) - 1}`
    if (values === undefined) {
      const isClass = spec.kind === 'number' && spec.range?.to === 'classes'
      return [
        `const ${spec.name} = ${number}`,
        ...(isClass ? [`if (${spec.name} >= classCount) return false`] : []),
        `result.${spec.name} = ${spec.name}`,
      ]
    }
    const last = values.at(below - 1)
    const named = values
      .slice(0, below - 1)
      .map((value, at) => `${spec.name} === ${at} ? '${value}' : `)
      .join('')
    return [`const ${spec.name} = ${number}`, `result.${spec.name} = ${named}'${last}'`]
  })
  const readsMemory = packedFields(hook).some(({ below }) => below === 0)
  const blobs = hook.output.fields.filter(({ spec }) => spec.kind === 'blob')
  const without = blobs.map(({ spec }) => `if (result.${spec.name} !== undefined) delete result.${spec.name}`)
  return `/** Reads what the gate has packed into its answer. False: it has to be read in full. */
function unpack${upper}(${readsMemory ? 'memory: GuestMemory, ' : ''}answer: number, ${told(hook, 'input') === '' ? '' : 'classCount: number, '}result: ${upper}Result): boolean {
${[...lines, ...without].map((line) => `  ${line}\n`).join('')}  return true
}
`
}

function settle(hook: PlacedHook): string {
  const { name } = hook.spec
  const upper = pascal(name)
  return `/** Of any other answer. True: the result holds a decision. */
function settle${upper}(runner: HookRunner<'${name}'>, memory: GuestMemory, status: number): boolean {
  if (status !== ${hookStatus.decided} && status < ${packedAnswer}) {
    if (status !== ${hookStatus.abstain}) refused(runner, status)
    abstained(runner)
    return false
  }
  const problem = read${upper}Decision(memory${told(hook, 'input')}, runner.result)
  if (problem !== undefined) invalid(runner, problem)
  return problem === undefined
}
`
}

function decide(name: string, upper: string): string {
  return `/** The decision of the first in the chain that has one, else of the fallback. */
export function decide${upper}(serving: Serving, input: ${upper}Input): ${upper}Decision {
  const sole = serving.soles.${name}
  if (sole === undefined) return decide${upper}ByChain(serving, input)
  return ask${upper}(sole, input) ?? decide${upper}Without(serving, sole, input)
}

/** When the only policy has no decision. */
function decide${upper}Without(serving: Serving, sole: HookRunner<'${name}'>, input: ${upper}Input): ${upper}Decision {
  const previous = sole.port === undefined ? serving.chains.${name}[0]?.previous : undefined
  const decision = previous === undefined ? undefined : ask${upper}(previous, input)
  if (decision !== undefined) return decision
  serving.fallbackCalls.${name} += 1
  return serving.fallbacks.${name}(input)
}

function decide${upper}ByChain(serving: Serving, input: ${upper}Input): ${upper}Decision {
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
function handOver(layout: Layout, whole: PlacedHook, isBrief: boolean): string {
  const hook = isBrief ? placeBriefly(layout, whole).hook : whole
  const { spec, input, items } = hook
  const spread = spreadItems(hook, isBrief)
  const abstain = 'return abstained(runner)'
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
  const stored = inputStores(layout, whole, isBrief).flatMap(({ value }) =>
    typeof value === 'number' ? [] : [value],
  )
  const lines = [
    ...fields,
    ...(spread
      ? [
          `const items = input.${spread.spec.property}`,
          `if (items.length !== ${spread.spec.most}) return ask${pascal(spec.name)}AfterAll(runner, port, input)`,
          ...Array.from(
            { length: spread.spec.most },
            (_, at) => `const item${at} = items[${at}] as ${spread.spec.name}`,
          ),
        ]
      : []),
    ...(items && !spread
      ? [
          `const items = input.${items.spec.property}`,
          'const itemCount = items.length',
          "// Too many items for the structs of this version: nobody's fault, and not the policy's to decide.",
          `if (itemCount > ${items.spec.most}) ${abstain}`,
          'memory.reattach()',
          `const { ${views(itemLines.join('\n')).join(', ')} } = memory`,
          'const at = memory.input',
          ...(blobs ? [`let blob = ${afterItems}`] : []),
          'for (let index = 0; index < itemCount; index += 1) {',
          `  const item = items[index] as ${items.spec.name}`,
          `  const to = at + ${input.byteLength} + index * ${items.byteLength}`,
          ...itemLines.map((line) => `  ${line}`),
          '}',
        ]
      : []),
    `const status = seat.doors.${wayName(hook, isBrief)}(${['seat.slot', 'memory.input', ...(inputBytesOf(whole, isBrief) === undefined ? [blobs ? 'blob' : afterItems] : []), 'memory.output', ...stored].join(', ')})`,
  ]
  return lines.map((line) => `    ${line}\n`).join('')
}
