import type { Command, CommandResult } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import type { PolicyDeployment } from '../contract/policy-deployment.ts'
import type { ApplyContext } from './apply-context.ts'
import {
  hasPackage,
  namedDigests,
  policyLimits,
  readDeployment,
  readEpoch,
  readPackageRows,
  removePackage,
  sha256,
  writeDeployment,
  writePackage,
} from './policy-rows.ts'

type Of<T extends Command['type']> = Extract<Command, { type: T }>

export function putPolicyPackage(
  context: ApplyContext,
  { digest, content }: Of<'put-policy-package'>,
): CommandResult<Of<'put-policy-package'>> {
  const { wasm, signature } = content
  if (sha256(wasm) !== digest) {
    throw new StorageError('BAD_DIGEST', `the module is not the one with the digest ${digest}`)
  }
  const row = {
    digest,
    byteLength: wasm.length,
    pushedMs: context.entry.nowMs,
    position: context.meta.position,
    ...(signature === undefined ? {} : { signature }),
  }
  writePackage(context, row, wasm)
  forgetSpares(context, readDeployment(context))
  return {}
}

export function deployPolicies(
  context: ApplyContext,
  { deployment }: Of<'deploy-policies'>,
): CommandResult<Of<'deploy-policies'>> {
  const epoch = readEpoch(context)
  if (deployment.epoch !== epoch + 1) {
    throw new StorageError(
      'CONFLICT',
      `the deployment of policies has epoch ${epoch}, and ${deployment.epoch} does not follow it: another change came first`,
    )
  }
  for (const digest of namedDigests(deployment)) {
    if (hasPackage(context, digest)) continue
    throw new StorageError('POLICY_NOT_FOUND', `the policy package ${digest} is not in this region: push it`)
  }
  writeDeployment(context, deployment)
  forgetSpares(context, deployment)
  return {}
}

/** By position in the log, not by clock: the order of pushes is the same on every replica and never stands still. */
function forgetSpares(context: ApplyContext, deployment: PolicyDeployment): void {
  const named = namedDigests(deployment)
  const spare = readPackageRows(context)
    .filter(({ digest }) => !named.has(digest))
    .toSorted((one, other) => other.position - one.position)
  for (const { digest } of spare.slice(policyLimits.sparePackages)) removePackage(context, digest)
}
