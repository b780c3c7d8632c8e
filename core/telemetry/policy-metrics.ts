import type { PolicyCounters, PolicyStatus } from '../contract/policy-deployment.ts'
import { Counter, Gauge, type Registry } from './metrics.ts'

/**
 * What policies do, read from the host at scrape time: nothing is counted twice on the way of a request. Labels are bounded by the
 * host: at most 16 policies, a few versions of each, five hooks, 65 reasons. A version that has retired takes its series along.
 */
export function registerPolicyMetrics(
  registry: Registry,
  status: () => PolicyStatus,
  fallbackCalls: () => Readonly<Record<string, number>>,
): void {
  const perHook = (name: string, help: string, read: (counters: PolicyCounters) => number): void => {
    new Counter({
      name: `pando_policy_${name}`,
      help,
      labelNames: ['policy', 'version', 'digest', 'hook'],
      registers: [registry],
      collect() {
        this.reset()
        for (const { labels, counters } of rows(status())) this.inc(labels, read(counters))
      },
    })
  }
  perHook('calls_total', 'Times that a policy was asked.', ({ calls }) => calls)
  perHook(
    'abstentions_total',
    'Calls that left the decision to the next policy.',
    ({ abstentions }) => abstentions,
  )
  perHook('errors_total', 'Calls that answered an error.', ({ errors }) => errors)
  perHook('traps_total', 'Calls that were stopped or broke down.', ({ traps }) => traps)
  perHook('out_of_fuel_total', 'Traps for want of fuel.', ({ outOfFuel }) => outOfFuel)
  perHook(
    'invalid_outputs_total',
    'Decisions that made no sense and were not used.',
    ({ invalidOutputs }) => invalidOutputs,
  )
  perHook('sampled_calls_total', 'Calls whose time and fuel were taken.', ({ samples }) => samples)
  perHook(
    'sampled_seconds_total',
    'Time of the sampled calls: by sampled_calls_total the mean.',
    ({ sampledNs }) => sampledNs / 1e9,
  )
  perHook('sampled_fuel_total', 'Fuel of the sampled calls.', ({ sampledFuel }) => sampledFuel)
  perHook(
    'compared_total',
    'Decisions of a shadow or canary that were compared with what served.',
    ({ compared }) => compared,
  )
  perHook('differed_total', 'Compared decisions that were not the same.', ({ differed }) => differed)

  new Counter({
    name: 'pando_policy_decisions_total',
    help: 'Decisions that a policy made, by the reason code of its manifest; codes beyond 64 are `other`.',
    labelNames: ['policy', 'version', 'digest', 'hook', 'reason'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { labels, counters } of rows(status())) {
        for (const [reason, count] of Object.entries(counters.reasons)) this.inc({ ...labels, reason }, count)
      }
    },
  })
  new Counter({
    name: 'pando_policy_fallback_decisions_total',
    help: 'Decisions that no policy made, so the built-in rules did.',
    labelNames: ['hook'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [hook, count] of Object.entries(fallbackCalls())) this.inc({ hook }, count)
    },
  })
  new Gauge({
    name: 'pando_policy_info',
    help: 'The share of requests, in percent, that a version of a policy is deployed for.',
    labelNames: ['policy', 'version', 'digest', 'stage'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { name, version, digest, stage, percent } of status().policies) {
        this.set({ policy: name, version, digest: digest.slice(0, digestChars), stage }, percent)
      }
    },
  })
  new Gauge({
    name: 'pando_policy_epoch',
    help: 'Epoch of the deployment of policies that this node follows: another one on another node is skew.',
    registers: [registry],
    collect() {
      this.set(status().epoch)
    },
  })
  new Gauge({
    name: 'pando_policy_quarantined',
    help: 'Modules that failed while they served and wait.',
    registers: [registry],
    collect() {
      this.set(status().quarantine.length)
    },
  })
}

/** As many as people are shown everywhere. */
const digestChars = 12

function rows({ policies }: PolicyStatus) {
  return policies.flatMap(({ name, version, digest, counters: byHook }) =>
    Object.entries(byHook).map(([hook, counters]) => ({
      labels: { policy: name, version, digest: digest.slice(0, digestChars), hook },
      counters,
    })),
  )
}
