import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ListBucketsCommand, S3Client } from '@aws-sdk/client-s3'
import { type CommandOutcome, type NodeProcess, runCommand, startNode } from '../../kit/node-process.ts'
import { type PytestCase, parsePytestReport } from '../pytest-report.ts'
import { portableCoreMarks } from './portable-core.ts'

const modules = [
  'boto3',
  'pytest',
  'pytest_timeout',
  'munch',
  'requests',
  'lxml',
  'isodate',
  'httplib2',
  'pytz',
]

/** A checkout of ceph/s3-tests: `--dir`, else PANDO_S3TESTS_DIR. Undefined when neither names one. */
export function findCheckout(
  given: string | undefined = process.env['PANDO_S3TESTS_DIR'],
): string | undefined {
  if (!given) return undefined
  if (!existsSync(join(given, 's3tests/functional/test_s3.py')))
    throw new Error(`${given} is no checkout of s3-tests`)
  return given
}

interface Account {
  readonly accessKey: string
  readonly secretKey: string
  readonly userId: string
  readonly displayName: string
}

export interface SuiteOptions {
  readonly checkout: string
  /** Only the cases for which it is true; default: the whole portable core. */
  readonly selects?: (name: string) => boolean
  readonly timeoutMs?: number
  /** Processes of pytest at once, each with a share of the cases. */
  readonly workers?: number
}

/**
 * Runs the suite against a fresh node and returns every case's outcome. A Python with a newer boto3 than Debian's can be
 * named by PANDO_S3TESTS_PYTHON: some cases use parameters that Debian's does not know.
 */
export async function runSuite(options: SuiteOptions): Promise<readonly PytestCase[]> {
  const python = process.env['PANDO_S3TESTS_PYTHON'] ?? '/usr/bin/python3'
  const probe = await runCommand(python, ['-c', `import ${modules.join(', ')}`])
  if (probe.code !== 0) throw new Error(`the suite needs Debian's Python packages: ${probe.stderr}`)
  await using node = await startNode()
  const directory = await mkdtemp(join(tmpdir(), 'pando-s3tests-'))
  try {
    // Accounts of its own for each process: some cases count the buckets of theirs.
    const configure = async (worker: number): Promise<string> => {
      const path = join(directory, `s3tests-${worker}.conf`)
      await writeFile(path, await configuration(node, worker), { mode: 0o600 })
      return path
    }
    const pytest = (config: string, args: readonly string[]): Promise<CommandOutcome> =>
      runCommand(
        python,
        ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', `--rootdir=${options.checkout}`, ...args],
        {
          cwd: options.checkout,
          timeoutMs: options.timeoutMs ?? 3_000_000,
          env: {
            PATH: '/usr/bin:/bin',
            HOME: directory,
            LC_ALL: 'C.UTF-8',
            PYTHONDONTWRITEBYTECODE: '1',
            S3TEST_CONF: config,
            // The AWS CLI's C runtime, where it is installed, would sign in ways that the suite's own hooks cannot follow.
            BOTO_DISABLE_CRT: 'true',
          },
        },
      )
    const collected = await pytest(await configure(0), [
      '--collect-only',
      '-m',
      portableCoreMarks,
      's3tests/functional',
    ])
    const cases = collected.stdout
      .split('\n')
      .filter(
        (line) => line.includes('::') && (options.selects?.(line.slice(line.indexOf('::') + 2)) ?? true),
      )
    if (cases.length === 0) throw new Error(`nothing to run\n${collected.stdout}\n${collected.stderr}`)
    const workers = Math.min(options.workers ?? 2, cases.length)
    const shares = Array.from({ length: workers }, (_, worker) =>
      cases.filter((_, at) => at % workers === worker),
    )
    const results = await Promise.all(
      shares.map(async (share, worker) => {
        const report = join(directory, `report-${worker}.xml`)
        // Signals: a case that hangs is reported and the run goes on; the other method ends the process.
        const limits = ['--timeout=120', '--timeout-method=signal']
        const config = worker === 0 ? join(directory, 's3tests-0.conf') : await configure(worker)
        const outcome = await pytest(config, [...limits, '--tb=short', `--junitxml=${report}`, ...share])
        if (!existsSync(report))
          throw new Error(`pytest gave no report\n${outcome.stdout}\n${outcome.stderr}`)
        return parsePytestReport(await readFile(report, 'utf8'))
      }),
    )
    if (!node.running) throw new Error(`the node died during the run\n${node.logTail()}`)
    return results.flat()
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Makes the accounts that the suite wants and writes its configuration. */
async function configuration(node: NodeProcess, worker: number): Promise<string> {
  const account = async (role: string): Promise<Account> => {
    const name = `${role}-${worker}`
    const outcome = await node.command('--json', 'key', 'create', name, '--account', name)
    if (outcome.code !== 0) throw new Error(`pando key create failed\n${outcome.stdout}\n${outcome.stderr}`)
    const key = JSON.parse(outcome.stdout) as { accessKeyId: string; secretKey: string }
    return await identify(node, key.accessKeyId, key.secretKey)
  }
  const section = (title: string, user: Account, more: readonly string[] = []): string =>
    [
      `[${title}]`,
      `display_name = ${user.displayName}`,
      `user_id = ${user.userId}`,
      `email = ${title.replace(' ', '-')}@example.com`,
      `access_key = ${user.accessKey}`,
      `secret_key = ${user.secretKey}`,
      ...more,
    ].join('\n')
  const main = await account('main')
  const alt = await account('alt')
  const tenant = await account('tenant')
  return [
    `[DEFAULT]\nhost = ${node.host}\nport = ${node.port}\nis_secure = False\nssl_verify = False`,
    '[fixtures]\nbucket prefix = s3t-{random}-\niam name prefix = s3-tests-\niam path prefix = /s3-tests/',
    section('s3 main', main),
    section('s3 alt', alt),
    section('s3 tenant', tenant, ['tenant = testx']),
    section('iam', main),
    section('iam root', main),
    section('iam alt root', alt),
    '',
  ].join('\n')
}

/** How the service itself calls the owner of a key: the suite compares it with what listings and ACLs say. */
async function identify(node: NodeProcess, accessKey: string, secretKey: string): Promise<Account> {
  const client = new S3Client({
    endpoint: node.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
  })
  try {
    const { Owner } = await client.send(new ListBucketsCommand({}))
    return {
      accessKey,
      secretKey,
      userId: Owner?.ID ?? '',
      displayName: Owner?.DisplayName ?? '',
    }
  } finally {
    client.destroy()
  }
}
