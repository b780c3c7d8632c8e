import { banner, readerParameters } from './generate-host.ts'
import { type Layout, type PlacedHook, pascal } from './layout.ts'

/**
 * The host's hot path, written out once for each hook. A function that five hooks share has one set of type feedback in V8, even as
 * five closures; what it calls differs, so nothing is inlined, and a decision takes about half as long again. Code of its own for
 * each hook is what keeps a call cheap; it is generated, so that it cannot differ in more than the hook.
 */
export function generateCalls({ hooks }: Layout): string {
  const names = hooks.map(({ spec }) => pascal(spec.name))
  return `${banner('//')}
import type { ${names.flatMap((name) => [`${name}Decision`, `${name}Input`]).join(', ')} } from '../../../core/contract/policy.ts'
import { hookStatus } from '../../abi/idl.ts'
import { abstained, type HookRunner, invalid, isSampledCall, refused, sampled, trapped } from '../hook-runner.ts'
import { count } from '../policy-counters.ts'
import { canaryBucket, compareShadow, type Serving } from '../serving-chain.ts'
import { ${names.flatMap((name) => [`read${name}Decision`, `write${name}Input`]).join(', ')} } from './policy-structs.ts'

${hooks.map(calls).join('\n')}`
}

function calls(hook: PlacedHook): string {
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
  const { port, counters, result } = runner
  if (port === undefined) return undefined
  const { values } = counters
  const calls = (values[count.calls] as number) + 1
  values[count.calls] = calls
  const isSampled = isSampledCall(calls)
  const startMs = isSampled ? runner.events.monotonic() : 0
  try {
    const { memory } = port
    const length = write${upper}Input(memory, input)
    // Too many items for the structs of this version: nobody's fault, and not the policy's to decide.
    if (length < 0) return abstained(runner, isSampled, startMs, input)
    const status = port.call(memory.input, length, memory.output, port.outputBytes, port.fuel)
    if (status !== hookStatus.decided) {
      if (status !== hookStatus.abstain) refused(runner, status)
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
  values[count.decisions] = (values[count.decisions] as number) + 1
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
