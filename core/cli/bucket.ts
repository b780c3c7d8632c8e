import type { BucketMessage } from '../control/messages.ts'
import { formatSize } from '../node/config/quantities.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { followJob } from './follow-job.ts'
import { counted, formatTime, type Terminal, table } from './terminal.ts'

export async function listBuckets(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const buckets: BucketMessage[] = []
  for (let after = ''; ; ) {
    const page = await admin.listBuckets(after)
    buckets.push(...page.buckets)
    const last = page.buckets.at(-1)
    if (!page.truncated || last === undefined) break
    after = last.name
  }
  if (options.json === true) terminal.out(`${JSON.stringify({ buckets })}\n`)
  else if (buckets.length === 0) terminal.out("no buckets yet: make one with 'pando bucket create NAME'\n")
  else {
    terminal.out(
      table(
        [{ title: 'name' }, { title: 'created' }, { title: 'owner' }, { title: 'versioning' }],
        buckets.map(({ name, createdMs, owner, versioning }) => [
          name,
          formatTime(createdMs),
          owner,
          versioning,
        ]),
      ),
    )
  }
  return exitCodes.ok[0]
}

export async function createBucket(
  terminal: Terminal,
  options: GlobalOptions & { readonly owner: string },
  name = '',
): Promise<number> {
  using admin = await connect(terminal, options)
  const bucket = await admin.createBucket(name, options.owner)
  terminal.out(options.json === true ? `${JSON.stringify(bucket)}\n` : `created bucket ${bucket.name}\n`)
  return exitCodes.ok[0]
}

export async function deleteBucket(terminal: Terminal, options: GlobalOptions, name = ''): Promise<number> {
  using admin = await connect(terminal, options)
  await admin.deleteBucket(name)
  terminal.out(options.json === true ? `${JSON.stringify({ deleted: name })}\n` : `deleted bucket ${name}\n`)
  return exitCodes.ok[0]
}

export async function statBucket(terminal: Terminal, options: GlobalOptions, name = ''): Promise<number> {
  using admin = await connect(terminal, options)
  const { counts } = await followJob(terminal, admin.statBucket(name), () => undefined)
  const objects = counts['objects'] ?? 0
  const bytes = counts['bytes'] ?? 0
  terminal.out(
    options.json === true
      ? `${JSON.stringify({ name, objects, bytes })}\n`
      : `${name}: ${counted(objects, 'object')}, ${formatSize(bytes)}\n`,
  )
  return exitCodes.ok[0]
}
