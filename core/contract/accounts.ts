import type { AccountId } from './object-model.ts'

/**
 * Accounts of several regions. A name means the account of the region that it is in; the same name elsewhere is somebody else. Here
 * `bob` of region 1 is `bob~1`, so a stranger of the same name owns nothing of his. No account of a region is called that way: names
 * that operators give have no `~`. The root account is whoever administers the region, and is `root` everywhere.
 */
const mark = '~'
const qualified = /^(.+)~(0|[1-9][0-9]{0,4})$/

/** What an account is called here that region `from` calls `name`. */
export function accountFrom(name: AccountId, from: number, here: number): AccountId {
  if (name === 'root' || from === here) return name
  const [, base, region] = qualified.exec(name) ?? []
  if (base === undefined) return `${name}${mark}${from}`
  return Number(region) === here ? base : name
}

/** What an account of region `home` is called here, for keys: whatever `home` says, it is one of its own and never `root`. */
export const foreignAccount = (name: AccountId, home: number): AccountId => `${name}${mark}${home}`

/**
 * What region `there` calls an account of this one, `here`: a bucket's policy that was written there names it so. A key that comes from
 * another region makes nobody its root there either.
 */
export function accountIn(name: AccountId, here: number, there: number): AccountId {
  const told = accountFrom(name, here, there)
  return told === 'root' && name !== 'root' ? name : told
}

/**
 * What a bucket's policy calls an access key: its id, and of another region's with the mark of that region. Its id is of that region's
 * choosing, and must not become the name of an account or a key that somebody here has written into a policy.
 */
export function keyName(accessKeyId: string, account: AccountId): string {
  const [, , region] = qualified.exec(account) ?? []
  return region === undefined ? accessKeyId : `${accessKeyId}${mark}${region}`
}
