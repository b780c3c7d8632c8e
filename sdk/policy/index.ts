/** `import { openPolicy, readTrace, replayTrace } from 'pando/sdk/policy'`: for authors of policies, in the test runner of their choice. */
export {
  checkVectors,
  comparePolicies,
  describeComparison,
  type OpenedPolicy,
  openPolicy,
  replayTrace,
} from './policy.ts'
export { type PolicyTrace, type RecordedDecision, readTrace } from './trace.ts'
export type {
  ChangedDecision,
  CompareOptions,
  OpenPolicyOptions,
  PolicyAnswer,
  PolicyComparison,
  PolicyHook,
  PolicyTables,
  VectorOutcome,
} from './types.ts'
