import { accountFrom } from '../../contract/accounts.ts'
import type { ReplicatedChange, ReplicatedVersion } from '../../contract/replication.ts'

/**
 * Entries name accounts as the region that sends them does. They are stored as they came, since the hash chain is over their bytes;
 * what they make here has the names that the accounts have here.
 */
interface Names {
  readonly from: number
  readonly here: number
}

export function changeFrom(change: ReplicatedChange, names: Names): ReplicatedChange {
  if (change.type === 'put') return { ...change, version: versionFrom(change.version, names) }
  if (change.type === 'attributes' && change.acl !== undefined) {
    return { ...change, acl: aclFrom(change.acl, names) }
  }
  return change
}

export function versionFrom(version: ReplicatedVersion, names: Names): ReplicatedVersion {
  const { owner, attributes } = version
  const { acl } = attributes
  return {
    ...version,
    owner: accountFrom(owner, names.from, names.here),
    ...(acl === undefined ? {} : { attributes: { ...attributes, acl: aclFrom(acl, names) } }),
  }
}

/** Grants as the gateway writes them: `["a", account, permission]`. What cannot be read stays as it is and grants nothing. */
export function aclFrom(acl: string, { from, here }: Names): string {
  const grants = parsed(acl)
  if (!Array.isArray(grants)) return acl
  return JSON.stringify(
    grants.map((grant: unknown) => {
      if (!Array.isArray(grant)) return grant
      const [kind, account, ...rest] = grant as unknown[]
      return kind === 'a' && typeof account === 'string'
        ? [kind, accountFrom(account, from, here), ...rest]
        : grant
    }),
  )
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
