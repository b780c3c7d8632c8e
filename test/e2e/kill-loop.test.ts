import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { suite, type TestContext, test } from 'node:test'
import { spdkState } from '../../native/addon.ts'
import type { BdevOptions } from '../../native/bdevs.ts'
import { type NodeProcess, startNode, withoutNative } from '../kit/node-process.ts'
import { buildPowerLossShim, losePower, powerLossEnvironment } from '../kit/power-loss/power-loss.ts'
import { seededRandom } from '../kit/random.ts'
import { openS3Client, type S3Client } from '../kit/s3-client.ts'
import { multipartContent, openLedger } from './durability/ledger.ts'
import { type Load, openLoad } from './durability/load.ts'
import { openRegisters } from './durability/registers.ts'
import { abortUnknownUploads, finishUploads, verifyLedger } from './durability/verification.ts'
import { openVersionedLoad } from './durability/versions.ts'

/**
 * SIGKILL in a loop under mixed load. `PANDO_KILLS=100` for the full run, `PANDO_SEED` to repeat one.
 * Figures of a run are printed as test diagnostics.
 */
const kills = Number(process.env['PANDO_KILLS'] ?? 10)
const givenSeed = process.env['PANDO_SEED']
const maxStartupMs = 5000
const bucket = 'kill-loop'
const versionedBucket = 'kill-versions'
const sharedBucket = 'kill-registers'

interface Trial {
  readonly backend: string
  readonly kills: number
  readonly bdevs?: readonly BdevOptions[]
  /** Rewrites the disk after each kill as a power loss might leave it. */
  readonly powerLoss?: { readonly library: string; readonly journal: string; readonly directory: string }
}

async function runTrial(t: TestContext, trial: Trial): Promise<void> {
  const seed = givenSeed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(givenSeed)
  t.diagnostic(`seed ${seed}: repeat with PANDO_SEED=${seed} PANDO_KILLS=${trial.kills}`)
  const random = seededRandom(seed)
  await using node = await startNode({
    config: {
      store: {
        backend: trial.backend,
        capacity: '2GiB',
        ...(trial.bdevs === undefined ? {} : { bdevs: trial.bdevs }),
      },
      maintenance: { collectInterval: '200ms' },
    },
    ...(trial.powerLoss === undefined
      ? {}
      : {
          parentDirectory: trial.powerLoss.directory,
          env: powerLossEnvironment(
            trial.powerLoss.library,
            trial.powerLoss.directory,
            trial.powerLoss.journal,
          ),
        }),
  })
  let client: S3Client = connect(node)
  const ledger = openLedger()
  for (const name of [bucket, versionedBucket, sharedBucket]) {
    assert.equal((await client.send({ method: 'PUT', bucket: name })).status, 200)
  }
  const versioning = '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>'
  const enabled = await client.send({
    method: 'PUT',
    bucket: versionedBucket,
    query: { versioning: '' },
    body: versioning,
  })
  assert.equal(enabled.status, 200)
  const loads = Array.from({ length: 5 }, (_, index) =>
    openLoad({
      name: `client-${index}`,
      bucket,
      client: () => client,
      ledger,
      random: seededRandom(seed + 1 + index),
      keyCount: 30,
    }),
  )
  const versions = openVersionedLoad(versionedBucket, () => client, seededRandom(seed + 100), 8)
  const registers = openRegisters(sharedBucket, () => client, seededRandom(seed + 200), 3, 2)
  const startups: number[] = []
  const wall: number[] = []

  const verify = async (): Promise<void> => {
    await verifyLedger(client, bucket, ledger)
    await versions.verify()
    await registers.verify()
    for (const load of loads) {
      await finishUploads(client, bucket, ledger, load.uploads, (upload) =>
        random.next() < 0.5 ? multipartContent(upload.parts) : undefined,
      )
    }
    await abortUnknownUploads(client, bucket)
  }

  for (let round = 0; round < trial.kills; round++) {
    const wanted = operationsOf(loads) + random.below(random.next() < 0.2 ? 300 : 80)
    const running = [...loads.map((load) => load.run()), versions.run(), registers.run()]
    const ended = Promise.allSettled(running)
    // The instant of the kill: after so many operations, and then anywhere within one.
    const deadline = performance.now() + 10_000
    while (operationsOf(loads) < wanted && performance.now() < deadline) {
      // A load that rejects has found a wrong answer: no reason to wait for the kill.
      await Promise.race([sleep(20), ...running.map((run) => run.then(() => sleep(20)))])
    }
    await sleep(random.below(100))
    await node.kill()
    client.close()
    for (const outcome of await ended) {
      if (outcome.status === 'rejected')
        throw new Error(`round ${round}: ${messageOf(outcome.reason)}\n${node.logTail()}`, {
          cause: outcome.reason,
        })
    }
    if (trial.powerLoss) await losePower(trial.powerLoss.journal, random.next)
    await node.start()
    startups.push(node.startupMs - node.startupStarvedMs)
    wall.push(node.startupMs)
    client = connect(node)
    try {
      await verify()
    } catch (reason) {
      const fate = await node.postMortem()
      throw new Error(`after kill ${round}: ${messageOf(reason)}\n${fate}`, { cause: reason })
    }
  }

  await assertAgreement(node)
  await node.stop()
  await node.start()
  client.close()
  client = connect(node)
  await verify()
  client.close()
  const operations = operationsOf(loads)
  startups.sort((a, b) => a - b)
  // Without the time that it waited for a processor: on a busy machine that says more about the other work.
  const longestMs = startups.at(-1) ?? 0
  assert.ok(longestMs < maxStartupMs, `a start after a kill took ${longestMs.toFixed(0)} ms`)
  t.diagnostic(
    `${trial.kills} kills of a node with the ${node.store} store (${trial.backend}): ${operations} operations, ` +
      `${ledger.acknowledged} acknowledged writes, none lost; ${registers.checked} operations of shared keys, ` +
      `linearizable; start-up median ${startups[startups.length >> 1]?.toFixed(0)} ms, longest ` +
      `${longestMs.toFixed(0)} ms (by the clock of this busy machine ${Math.max(...wall).toFixed(0)} ms)`,
  )
  assert.ok(operations > trial.kills * 5, 'the load did next to nothing')
}

/** The full scan: everything the catalog names is stored; what nobody owns can be freed; then both agree. */
async function assertAgreement(node: NodeProcess): Promise<void> {
  const collected = await node.command('--json', 'debug', 'collect')
  assert.equal(collected.code, 0, collected.stdout + collected.stderr)
  const first = await node.command('--json', 'debug', 'scan', '--repair')
  assert.doesNotMatch(first.stdout, /missing-chunk/, first.stdout)
  const second = await node.command('--json', 'debug', 'scan')
  assert.equal(
    second.code,
    0,
    `store and catalog disagree after the repair\n${first.stdout}\n${second.stdout}${second.stderr}`,
  )
}

function operationsOf(loads: readonly Load[]): number {
  return loads.reduce((sum, load) => sum + [...load.operations.values()].reduce((a, b) => a + b, 0), 0)
}

function connect(node: NodeProcess): S3Client {
  return openS3Client({ endpoint: node.endpoint, accessKey: node.accessKey, secretKey: node.secretKey })
}

const sleep = (ms: number): Promise<void> => new Promise((resolveSleep) => setTimeout(resolveSleep, ms))

const hasCompiler = ((): boolean => {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

suite('kill -9 under mixed load: nothing acknowledged is lost, changed or half there', {
  timeout: 3_600_000,
}, () => {
  test('with the native store', { timeout: 3_600_000, skip: withoutNative }, (t) =>
    runTrial(t, { backend: 'auto', kills }),
  )

  test('with the reference store', { timeout: 3_600_000 }, (t) =>
    runTrial(t, { backend: 'reference', kills: Math.ceil(kills / 3) }),
  )

  const noSpdk = spdkState().reason
  test('with the store on SPDK bdevs', { timeout: 3_600_000, skip: noSpdk !== '' && noSpdk }, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'pando-bdevs-'))
    try {
      const bdevs = ['first', 'second'].map((name) => ({ kind: 'aio', path: join(directory, name) }) as const)
      for (const { path } of bdevs) {
        await writeFile(path, '')
        await truncate(path, 1025 * 1024 * 1024)
      }
      await runTrial(t, { backend: 'spdk', bdevs, kills })
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })

  for (const backend of ['posix', 'reference']) {
    test(`with power lost: un-synced writes are dropped or torn (${backend})`, {
      timeout: 3_600_000,
      skip: hasCompiler
        ? backend === 'posix' && withoutNative
        : 'no C compiler: the preloaded shim cannot be built',
    }, async (t) => {
      const directory = await mkdtemp(join(tmpdir(), 'pando-power-'))
      const library = buildPowerLossShim(resolve(import.meta.dirname, '../../../test/kit/power-loss/shim.c'))
      const journal = `${directory}.journal`
      try {
        await runTrial(t, {
          backend,
          kills: Math.ceil(kills / 3),
          powerLoss: { library, journal, directory },
        })
      } finally {
        await rm(journal, { force: true })
        await rm(directory, { recursive: true, force: true })
        await rm(library, { force: true })
      }
    })
  }
})

function messageOf(reason: unknown): string {
  return reason instanceof Error ? (reason.stack ?? reason.message) : String(reason)
}
