import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as messages from '../../../core/control/messages.ts'
import type * as policies from '../../../core/control/policy-messages.ts'
import { parseMetrics } from '../../../sdk/admin/index.ts'
import type * as sdk from '../../../sdk/admin/types.ts'

/**
 * The SDK imports nothing of the server, so its types are written down twice. This does not compile when a field of an answer is
 * missing in the server's message or has another type there.
 */
type Answers = {
  readonly status: [messages.StatusReply, sdk.NodeStatus]
  readonly stats: [messages.StatsReply, sdk.NodeStats]
  readonly bucket: [messages.BucketMessage, sdk.Bucket]
  readonly key: [messages.AccessKeyMessage, sdk.AccessKey]
  readonly progress: [messages.JobProgress, sdk.JobProgress]
  readonly finding: [messages.JobFinding, sdk.JobFinding]
  readonly reload: [messages.ReloadConfigReply, sdk.ReloadReport]
  readonly deployment: [policies.PolicyDeploymentMessage, sdk.PolicyDeployment]
  readonly policyStatus: [policies.PolicyStatusMessage, sdk.PolicyStatus]
  readonly policyList: [policies.ListPoliciesReply, sdk.PolicyList]
  readonly inspection: [policies.PolicyInspectionMessage, sdk.PolicyInspection]
  readonly request: [policies.ExplainedRequestMessage, sdk.ExplainedRequest]
  readonly decision: [policies.ExplainedDecisionMessage, sdk.ExplainedDecision]
}
type Unlike = {
  [Name in keyof Answers]: Answers[Name][0] extends Answers[Name][1] ? never : Name
}[keyof Answers]
const unlike: readonly Unlike[] = []

test('what the server sends is what the SDK says', () => {
  const none: readonly never[] = unlike
  assert.deepEqual(none, [])
})

test('metrics are read as Prometheus writes them', () => {
  const set = parseMetrics(
    [
      '# HELP a_total What it is.',
      '# TYPE a_total counter',
      'a_total{path="/x \\"y\\"\\\\\\n",le="+Inf"} 3 1700000000000',
      'a_total{path="/z"} 1.5e3',
      'b +Inf',
      'c NaN',
      'not a sample',
      '',
    ].join('\n'),
  )
  assert.equal(set.samples.length, 4)
  assert.deepEqual(set.all('a_total', { path: '/x "y"\\\n' })[0]?.value, 3)
  assert.equal(set.sum('a_total'), 1503)
  assert.equal(set.sum('a_total', { path: 'nowhere' }), 0)
  assert.equal(set.sum('b'), Number.POSITIVE_INFINITY)
  assert.ok(Number.isNaN(set.sum('c')))
})
