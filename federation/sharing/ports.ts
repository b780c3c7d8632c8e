import type { PolicyPackage } from '../../core/contract/policy-deployment.ts'
import type { Publication, PublicationStatus } from '../../core/contract/sharing.ts'
import type { SharedKey } from './wire.ts'

/** The access keys of a region, with and without their secrets: implemented over its catalog and its sealing key. */
export interface KeyStore {
  /** For every region that is to know some: how many, and what changes when one of them does. Not the secrets. */
  given(): ReadonlyMap<number, { readonly digest: string; readonly count: number }>
  /** With their secrets, for that region alone, as the whole region has them now, and the digest of just these. */
  for(region: number): Promise<{ readonly digest: string; readonly keys: readonly SharedKey[] }>
  /** Knows these of a region from now on, and no others of it. The ids that others here have are answered. */
  take(home: number, keys: readonly SharedKey[]): Promise<{ readonly refused: readonly string[] }>
  takenOf(home: number): number
  share(accessKeyId: string, regions: readonly number[]): Promise<void>
}

/** The policies of a region: what an operator of it may do, for one elsewhere whom it allows it. */
export interface PolicyPort {
  package(digest: string): Promise<PolicyPackage | undefined>
  /** Checks it as if it had been pushed here, and has it serve when it is to. POLICY_REFUSED and others of `pando policy`. */
  take(offered: Omit<Publication, 'regions' | 'sinceMs'>, content: PolicyPackage): Promise<void>
  serves(name: string): PublicationStatus['serves']
}
