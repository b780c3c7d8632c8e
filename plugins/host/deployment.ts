import { StorageError } from '../../core/contract/errors.ts'
import type {
  DeployedPolicy,
  DeployedVersion,
  PolicyDeployment,
} from '../../core/contract/policy-deployment.ts'
import type { VersionIdentity } from './policy-version.ts'

/** Changes of the deployment record: pure functions, each gives the next record with the next epoch. */

export const emptyDeployment: PolicyDeployment = { epoch: 0, policies: [] }
const historyMost = 10
const policiesMost = 16

export const sameVersion = (one: VersionIdentity, other: VersionIdentity) =>
  one.digest === other.digest && one.config === other.config

export function findPolicy(deployment: PolicyDeployment, name: string): DeployedPolicy | undefined {
  return deployment.policies.find((policy) => policy.name === name)
}

/** The one that a canary is measured against: the older one, which serves. Shadows do not serve. */
export function mainVersion(policy: DeployedPolicy | undefined): DeployedVersion | undefined {
  return policy?.versions.find(({ percent }) => percent > 0)
}

/**
 * The version serves `percent` of the policy's requests, and what served before serves the rest (0 = the version runs in the
 * shadow). At 100 what served before goes into the history.
 */
export function withVersion(
  deployment: PolicyDeployment,
  name: string,
  version: DeployedVersion,
  position?: number,
): PolicyDeployment {
  const policy = findPolicy(deployment, name) ?? { name, versions: [], history: [] }
  const others = policy.versions.filter((other) => !sameVersion(other, version) && other.percent > 0)
  // The older one goes on; another canary that was under way ends here.
  const [main] = others
  const isAll = version.percent === 100
  const versions =
    isAll || main === undefined ? [version] : [{ ...main, percent: 100 - version.percent }, version]
  const history = isAll && main !== undefined ? intoHistory(policy.history, main, version) : policy.history
  return withPolicy(deployment, { name, versions, history }, position)
}

/**
 * Without this version; the newest of the history takes its place when nothing else serves.
 * `retreat`: where to go instead of the newest; what served beside the version goes into the history then.
 */
export function withoutVersion(
  deployment: PolicyDeployment,
  name: string,
  version: VersionIdentity,
  nowMs: number,
  retreat?: string,
): PolicyDeployment {
  const policy = findPolicy(deployment, name)
  if (policy === undefined) throw new StorageError('POLICY_NOT_FOUND', `no policy called ${name} is deployed`)
  const rest = policy.versions.filter((other) => !sameVersion(other, version) && other.percent > 0)
  if (rest.length > 0 && retreat === undefined) {
    return withPolicy(deployment, { ...policy, versions: rest.map((other) => ({ ...other, percent: 100 })) })
  }
  // One that serves beside it may be named as well: going there is what happens without a name.
  const back = [...rest, ...policy.history].find(
    (old) => !sameVersion(old, version) && (retreat === undefined || old.digest === retreat),
  )
  if (retreat !== undefined && back === undefined) {
    throw new StorageError(
      'POLICY_NOT_FOUND',
      `${retreat.slice(0, 12)} is not among the last versions of ${name}`,
    )
  }
  // What served beside the one that is taken out was not found bad: it can be gone back to.
  const [main] = rest
  const isKept = main !== undefined && back !== undefined && !sameVersion(main, back)
  const others = policy.history.filter((old) => back === undefined || !sameVersion(old, back))
  const history = isKept ? intoHistory(others, main) : others
  return withPolicy(deployment, {
    name,
    versions: back === undefined ? [] : [{ ...back, percent: 100, sinceMs: nowMs }],
    history,
  })
}

export function withoutPolicy(deployment: PolicyDeployment, name: string): PolicyDeployment {
  const policy = findPolicy(deployment, name)
  if (policy === undefined) throw new StorageError('POLICY_NOT_FOUND', `no policy called ${name} is deployed`)
  const main = mainVersion(policy)
  const history = main === undefined ? policy.history : intoHistory(policy.history, main)
  return withPolicy(deployment, { name, versions: [], history })
}

function intoHistory(
  history: readonly DeployedVersion[],
  version: DeployedVersion,
  but?: VersionIdentity,
): readonly DeployedVersion[] {
  const others = history.filter(
    (old) => !sameVersion(old, version) && (but === undefined || !sameVersion(old, but)),
  )
  return [version, ...others].slice(0, historyMost)
}

function withPolicy(
  deployment: PolicyDeployment,
  policy: DeployedPolicy,
  position?: number,
): PolicyDeployment {
  const at = deployment.policies.findIndex(({ name }) => name === policy.name)
  const others = deployment.policies.filter(({ name }) => name !== policy.name)
  const place = Math.min(position ?? (at < 0 ? others.length : at), others.length)
  const policies = others.toSpliced(place, 0, policy)
  if (policies.length > policiesMost) {
    throw new StorageError('INVALID_ARGUMENT', `at most ${policiesMost} policies can be deployed`)
  }
  return { epoch: deployment.epoch + 1, policies }
}
