import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import { makeAccessKeys, makeSecret } from './access-keys.ts'
import { type CertifiedKey, issueNodeCertificate, makeAuthority } from './certificate.ts'
import { type KeyFiles, keyFiles, readKeyFile, writeKeyFolder } from './key-folder.ts'

/** Folder of the authority beside those of the nodes. */
export const authorityFolder = 'authority'

export interface PlannedNode {
  /** As `node` in its configuration. */
  readonly name: string
  /** Names and addresses under which the others reach it, without ports. */
  readonly hosts: readonly string[]
}

export interface ClusterKeysPlan {
  /** Where the folders go: `authority`, and one named after each node. */
  readonly directory: string
  readonly regionId: number
  readonly nodes: readonly PlannedNode[]
  /** Keys of the root account; made when not given. */
  readonly rootKeys?: RootAccessKeys
  /** What seals the secrets of access keys, 32 bytes: of a node whose data becomes the region's. Made when not given. */
  readonly sealingKey?: Uint8Array
}

export interface RootAccessKeys {
  readonly accessKeyId: string
  readonly secretKey: string
}

/** What the NATS servers ask of those who connect, beside a certificate. */
export interface NatsSecrets {
  readonly user: string
  readonly password: string
  readonly routeUser: string
  readonly routePassword: string
}

const planSchema = z.object({
  directory: z.string().min(1),
  regionId: z.int().min(0).max(65_535),
  nodes: z
    .array(
      z.object({
        name: z
          .string()
          .regex(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/, '1 to 32 of a-z, 0-9 and -, not - at an end')
          .refine((name) => name !== authorityFolder, `'${authorityFolder}' is the folder of the authority`),
        hosts: z.array(
          z.string().regex(/^[A-Za-z0-9.:%_-]{1,253}$/, 'a host name or an address, without a port'),
        ),
      }),
    )
    .max(10_000)
    .refine((nodes) => new Set(nodes.map(({ name }) => name)).size === nodes.length, 'two nodes of one name'),
})

const aboutAuthority = z.object({ product: z.literal('pando'), format: z.literal(1), regionId: z.int() })

/** What all nodes of the region share; the same files as in a data directory. */
const sharedFiles = [
  keyFiles.authority,
  keyFiles.regionKey,
  keyFiles.sealingKey,
  keyFiles.rootKeys,
  keyFiles.nats,
] as const

/**
 * Everything secret of a new region: its authority and a folder for every node, which is copied to that node and nowhere else.
 * CONFLICT when there are keys already; INVALID_ARGUMENT names what is wrong with the plan. Resolves with the folders made.
 */
export async function makeClusterKeys(
  plan: ClusterKeysPlan,
  environment: Environment,
): Promise<{ readonly authority: string; readonly nodes: Readonly<Record<string, string>> }> {
  checkPlan(plan)
  const { directory, regionId } = plan
  const { randomness } = environment
  for (const name of [authorityFolder, ...plan.nodes.map((node) => node.name)]) {
    await refuseExisting(join(directory, name))
  }
  const authority = await makeAuthority(regionId, environment)
  const shared: KeyFiles = {
    [keyFiles.authority]: authority.certificate,
    [keyFiles.regionKey]: `${Buffer.from(randomness.fill(new Uint8Array(32))).toString('hex')}\n`,
    [keyFiles.sealingKey]: `${Buffer.from(plan.sealingKey ?? randomness.fill(new Uint8Array(32))).toString('base64')}\n`,
    [keyFiles.rootKeys]: json(plan.rootKeys ?? makeAccessKeys(randomness)),
    [keyFiles.nats]: json({
      user: 'pando',
      password: makeSecret(randomness),
      routeUser: 'pando-route',
      routePassword: makeSecret(randomness),
    } satisfies NatsSecrets),
  }
  const authorityPath = join(directory, authorityFolder)
  const about = json({ product: 'pando', format: 1, regionId })
  await writeKeyFolder(
    authorityPath,
    { ...shared, [keyFiles.authorityKey]: authority.key, [keyFiles.about]: about },
    randomness,
  )
  const nodes: Record<string, string> = {}
  for (const node of plan.nodes) {
    const path = join(directory, node.name)
    await writeNode(path, node, regionId, authority, shared, environment)
    nodes[node.name] = path
  }
  return { authority: authorityPath, nodes }
}

/**
 * Keys for one more node, or new ones for a node whose certificate ends, out of the folder of the authority. `to` must not exist
 * (CONFLICT). INVALID_CONFIG when the authority's folder is damaged.
 */
export async function makeNodeKeys(
  request: { readonly authority: string; readonly node: PlannedNode; readonly to: string },
  environment: Environment,
): Promise<void> {
  const { authority: from, node, to } = request
  await refuseExisting(to)
  const about = parseKeyJson(
    aboutAuthority,
    await readKeyFile(from, keyFiles.about),
    join(from, keyFiles.about),
  )
  checkPlan({ directory: to, regionId: about.regionId, nodes: [node] })
  const shared: Record<string, string> = {}
  for (const name of sharedFiles) shared[name] = await readKeyFile(from, name)
  const authority: CertifiedKey = {
    certificate: shared[keyFiles.authority] ?? '',
    key: await readKeyFile(from, keyFiles.authorityKey),
  }
  await writeNode(to, node, about.regionId, authority, shared, environment)
}

async function writeNode(
  path: string,
  { name, hosts }: PlannedNode,
  regionId: number,
  authority: CertifiedKey,
  shared: KeyFiles,
  environment: Environment,
): Promise<void> {
  const own = await issueNodeCertificate(authority, { regionId, name }, hosts, environment)
  const about = json({ product: 'pando', format: 1, regionId, node: name })
  await writeKeyFolder(
    path,
    { ...shared, [keyFiles.certificate]: own.certificate, [keyFiles.key]: own.key, [keyFiles.about]: about },
    environment.randomness,
  )
}

/** The parsed text, or INVALID_CONFIG without a cause: a parser's message may quote a secret. */
export function parseKeyJson<T>(schema: z.ZodType<T>, text: string, path: string): T {
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    throw new StorageError('INVALID_CONFIG', `${path} is damaged: restore it from a backup`)
  }
}

function checkPlan(plan: ClusterKeysPlan): void {
  const parsed = planSchema.safeParse(plan)
  if (parsed.success) return
  const issue = parsed.error.issues[0]
  throw new StorageError(
    'INVALID_ARGUMENT',
    `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not valid'}`,
  )
}

async function refuseExisting(path: string): Promise<void> {
  const exists = await access(path).then(
    () => true,
    () => false,
  )
  if (exists) throw new StorageError('CONFLICT', `${path} is there already; keys are never overwritten`)
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`
