import assert from 'node:assert/strict'
import { sha256 } from '../../core/catalog/policy-rows.ts'
import { createWriteRegistry } from '../../core/catalog/write-registry.ts'
import type { Command, Preconditions } from '../../core/contract/catalog.ts'
import type { Environment } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { VersionId } from '../../core/contract/object-model.ts'
import type { PolicyDeployment } from '../../core/contract/policy-deployment.ts'
import {
  chunkedObject,
  emptyObject,
  etagOf,
  extentOf,
  inlineObject,
  plainAttributes,
} from './catalog-commands.ts'
import { CatalogModel, type ModelAnswer, type ModelBucket, type ModelVersion } from './catalog-model.ts'

/** A seeded environment: time goes on a little with every look, and now and then steps. */
export function seededEnvironment(seed: number): Environment & { step(byMs: number): void } {
  let state = seed >>> 0
  let nowMs = 1_700_000_000_000
  const next = (): number => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0
    let word = Math.imul(state ^ (state >>> 15), 1 | state)
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word
    return (word ^ (word >>> 14)) >>> 0
  }
  return {
    clock: {
      now: () => nowMs++,
      monotonic: () => nowMs,
      sleep: () => Promise.resolve(),
    },
    randomness: {
      fill(target) {
        for (let index = 0; index < target.length; index++) target[index] = next() & 0xff
        return target
      },
    },
    step(byMs) {
      nowMs += byMs
    },
  }
}

/** An abstract step; the numbers choose among what there is when it runs. */
export interface Step {
  readonly kind: (typeof stepKinds)[number]
  readonly bucket: number
  readonly key: number
  readonly pick: number
  readonly condition: number
}

export const stepKinds = [
  'create-bucket',
  'delete-bucket',
  'set-versioning',
  'put',
  'put',
  'put',
  'delete',
  'delete',
  'delete-version',
  'delete-many',
  'create-upload',
  'put-part',
  'put-part',
  'complete',
  'complete-again',
  'abort',
  'collect',
  'push-policy',
  'push-policy',
  'deploy-policies',
] as const

const bucketNames = ['alpha', 'beta']
// One key is a prefix of another, one holds NUL, one sorts differently in UTF-16 and UTF-8.
export const keyNames = ['a', 'a/b', 'a\u0000b', '\u{1f600}', '\uffee', 'b']

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))

/** Turns steps into commands, and holds the catalog's answers against the model's. */
export class CatalogDriver {
  readonly model = new CatalogModel()
  readonly environment: Environment & { step(byMs: number): void }
  private readonly registry
  private readonly completed: Extract<Command, { type: 'complete-upload' }>[] = []
  private etags = 0
  private lastVersionId = ''

  constructor(seed: number) {
    this.environment = seededEnvironment(seed)
    this.registry = createWriteRegistry(this.environment)
  }

  /** The command of a step and what the model answers; undefined where the step makes no sense now. */
  plan(step: Step): { command: Command; expected: ModelAnswer; settle(value: unknown): void } | undefined {
    const name = bucketNames[step.bucket % bucketNames.length] ?? ''
    const found = [...this.model.buckets].find(([, bucket]) => bucket.name === name)
    const bucketId = found?.[0] ?? 999
    const bucket = found?.[1]
    const key = keyNames[step.key % keyNames.length] ?? ''
    const settle = (): void => {}
    switch (step.kind) {
      case 'create-bucket':
        return {
          command: { type: 'create-bucket', name, owner: 'root' },
          expected: this.model.createBucket(name),
          settle,
        }
      case 'delete-bucket':
        return { command: { type: 'delete-bucket', name }, expected: this.model.deleteBucket(name), settle }
      case 'set-versioning': {
        const state = step.pick % 3 === 0 ? 'suspended' : 'enabled'
        return {
          command: { type: 'set-versioning', bucketId, state },
          expected: this.model.setVersioning(bucketId, state),
          settle,
        }
      }
      case 'put':
        return this.planPut(step, bucketId, bucket, key)
      case 'delete':
      case 'delete-version':
      case 'delete-many':
        return this.planDelete(step, bucketId, bucket, key)
      case 'collect': {
        const writeIds = [...this.model.garbage].slice(0, 1 + (step.pick % 4))
        for (const writeId of writeIds) this.model.garbage.delete(writeId)
        return {
          command: { type: 'collected', writeIds: writeIds.map(bytesOf) },
          expected: { value: {} },
          settle,
        }
      }
      case 'push-policy': {
        // More modules than are kept for nothing.
        const wasm = Uint8Array.of(0, 0x61, 0x73, 0x6d, step.pick % 40)
        const digest = sha256(wasm)
        const isWrong = step.condition % 9 === 0
        return {
          command: {
            type: 'put-policy-package',
            digest: isWrong ? sha256(Uint8Array.of(1)) : digest,
            content: { wasm },
          },
          expected: isWrong ? { error: 'BAD_DIGEST' } : this.model.pushPolicy(digest),
          settle,
        }
      }
      case 'deploy-policies': {
        const deployment = this.makeDeployment(step)
        return {
          command: { type: 'deploy-policies', deployment },
          expected: this.model.deployPolicies(deployment),
          settle,
        }
      }
      default:
        return this.planUpload(step, bucketId, bucket, key)
    }
  }

  private condition(step: Step, newest: ModelVersion | undefined): Preconditions | undefined {
    const etag = newest?.etag ?? etagOf(0)
    const conditions: (Preconditions | undefined)[] = [
      { ifNoneMatch: '*' },
      { ifMatch: '*' },
      { ifMatch: [etag] },
      { ifMatch: [etagOf(1_000_000)] },
      { ifNoneMatch: [etag] },
    ]
    return conditions[step.condition % 12]
  }

  private planPut(step: Step, bucketId: number, bucket: ModelBucket | undefined, key: string) {
    const etag = etagOf(++this.etags)
    const object = [
      () => emptyObject(etag),
      () => inlineObject(this.registry.begin(), new Uint8Array(1 + (step.pick % 50)), etag),
      () => chunkedObject(extentOf(this.registry.begin(), 1 + step.pick), etag),
    ][step.pick % 3]?.()
    if (object === undefined) return undefined
    const preconditions = this.condition(step, bucket?.keys.get(key)?.[0])
    const command: Command = {
      type: 'put-object',
      bucketId,
      key,
      owner: 'root',
      object,
      ...(preconditions === undefined ? {} : { preconditions }),
    }
    const expected = this.model.put(command)
    return { command, expected, settle: (value: unknown) => this.learn(bucketId, key, value) }
  }

  private makeDeployment(step: Step): PolicyDeployment {
    const { epoch } = this.model.deployment
    const version = (digest: string, percent: number) => ({ digest, percent, config: '{}', sinceMs: 1 })
    const pushed = this.model.packages
    const chosen = pushed.filter((_, index) => (index + step.pick) % 3 === 0).slice(0, 4)
    const [first, ...rest] =
      step.condition % 7 === 0 ? [sha256(Uint8Array.of(2)), ...chosen] : [...chosen, ...pushed.slice(-1)]
    return {
      epoch: epoch + (step.condition % 5 === 0 ? step.key : 1),
      policies:
        first === undefined
          ? []
          : [
              {
                name: 'one',
                versions: [version(first, 100)],
                history: rest.map((digest) => version(digest, 100)),
              },
            ],
    }
  }

  private learn(bucketId: number, key: string, value: unknown): void {
    const { versionId } = value as { versionId: VersionId | 'null' }
    const newest = this.model.buckets.get(bucketId)?.keys.get(key)?.[0]
    assert.equal(versionId === 'null', newest?.isNull)
    if (versionId === 'null') return
    const id = hex(versionId)
    this.model.learnId(bucketId, key, id)
    assert.ok(id > this.lastVersionId || newest?.uploadId !== undefined, 'version ids only grow')
    if (id > this.lastVersionId) this.lastVersionId = id
  }

  private planDelete(step: Step, bucketId: number, bucket: ModelBucket | undefined, key: string) {
    const keys = step.kind === 'delete-many' ? [key, keyNames[step.pick % keyNames.length] ?? '', key] : [key]
    const items = keys.map((itemKey) => {
      const versions = bucket?.keys.get(itemKey) ?? []
      const chosen = versions[step.pick % Math.max(1, versions.length)]
      const version =
        chosen === undefined ? ('null' as const) : chosen.isNull ? ('null' as const) : bytesOf(chosen.id)
      const named = step.kind === 'delete-version'
      const target = named ? chosen : versions[0]
      const preconditions = [
        { ifMatch: '*' as const },
        { ifMatch: [target?.etag ?? 'x'] },
        { ifMatch: [etagOf(1_000_000)] },
        { ifMatchSize: 3 },
      ][step.condition % 12]
      return {
        key: itemKey,
        ...(named ? { version } : {}),
        ...(preconditions === undefined ? {} : { preconditions }),
      }
    })
    const command: Command = { type: 'delete-objects', bucketId, items, owner: 'root' }
    const results = items.map((item) => this.model.delete(bucketId, item))
    const expected: ModelAnswer =
      bucket === undefined ? { error: 'NO_SUCH_BUCKET' } : { value: { outcomes: results } }
    const settle = (value: unknown): void => {
      const { outcomes } = value as Extract<ModelAnswer, { value: unknown }>['value'] & {
        outcomes: {
          key: string
          deleteMarker: boolean
          versionId?: VersionId | 'null'
          error?: StorageError
        }[]
      }
      assert.equal(outcomes.length, items.length)
      for (const [index, outcome] of outcomes.entries()) {
        const item = items[index]
        const result = results[index]
        assert.equal(outcome.key, item?.key)
        if (result === undefined) continue
        if ('error' in result) {
          assert.equal(outcome.error?.code, result.error)
          continue
        }
        assert.equal(outcome.error, undefined)
        assert.equal(outcome.deleteMarker, result.value['deleteMarker'])
      }
      for (const itemKey of new Set(keys)) {
        const made = outcomes.filter(
          (outcome) => outcome.key === itemKey && step.kind !== 'delete-version' && outcome.deleteMarker,
        )
        // Made one after the other: the last is the newest version, the one before it the next.
        for (const [index, outcome] of made.entries()) {
          const { versionId } = outcome
          if (!(versionId instanceof Uint8Array)) continue
          const marker = this.model.buckets.get(bucketId)?.keys.get(itemKey)?.[made.length - 1 - index]
          assert.equal(marker?.deleteMarker, true)
          if (marker !== undefined) marker.id = hex(versionId)
        }
      }
      for (const { versionId, deleteMarker } of outcomes) {
        if (step.kind === 'delete-version' || !deleteMarker || !(versionId instanceof Uint8Array)) continue
        assert.ok(hex(versionId) > this.lastVersionId, 'version ids only grow')
        this.lastVersionId = hex(versionId)
      }
    }
    return { command, expected, settle }
  }

  private planUpload(step: Step, bucketId: number, bucket: ModelBucket | undefined, key: string) {
    if (step.kind === 'create-upload') {
      const command: Command = {
        type: 'create-upload',
        bucketId,
        key,
        owner: 'root',
        initiator: 'root',
        attributes: plainAttributes,
      }
      const expected: ModelAnswer = bucket === undefined ? { error: 'NO_SUCH_BUCKET' } : { value: {} }
      return {
        command,
        expected,
        settle: (value: unknown) => {
          this.model.createUpload(bucketId, key, (value as { uploadId: string }).uploadId)
        },
      }
    }
    const settle = (): void => {}
    if (step.kind === 'complete-again') {
      const command = this.completed[step.pick % Math.max(1, this.completed.length)]
      if (command === undefined) return undefined
      return { command, expected: this.model.completeUpload(command), settle }
    }
    const uploads = [...(bucket?.uploads.values() ?? [])]
    const upload = uploads[step.pick % Math.max(1, uploads.length)]
    if (upload === undefined) return undefined
    const place = { bucketId, key: upload.key, uploadId: upload.uploadId }
    if (step.kind === 'abort') {
      const command = { type: 'abort-upload', ...place } as const
      return { command, expected: this.model.abortUpload(command), settle }
    }
    if (step.kind === 'put-part') {
      const byteLength = 1 + (step.condition % 5) * 1000
      const command = {
        type: 'put-part',
        ...place,
        number: 1 + (step.key % 3),
        byteLength,
        etag: etagOf(++this.etags),
        layout: { kind: 'chunks', extents: [extentOf(this.registry.begin(), byteLength)] },
      } as const
      return { command, expected: this.model.putPart(command), settle }
    }
    const numbers = [...upload.parts.keys()].sort((left, right) => left - right)
    const chosen = step.condition % 4 === 0 ? numbers.slice(1) : numbers
    const preconditions = this.condition(step, bucket?.keys.get(upload.key)?.[0])
    const command: Extract<Command, { type: 'complete-upload' }> = {
      type: 'complete-upload',
      ...place,
      parts: chosen.map((number) => ({
        number,
        etag: step.condition % 11 === 10 ? etagOf(1_000_000) : (upload.parts.get(number)?.etag ?? ''),
      })),
      etag: `${etagOf(++this.etags)}-${chosen.length}`,
      ...(preconditions === undefined ? {} : { preconditions }),
    }
    const expected = this.model.completeUpload(command)
    if (!('error' in expected)) this.completed.push(command)
    return { command, expected, settle: (value: unknown) => this.learn(bucketId, upload.key, value) }
  }

  /** Runs a step on a catalog and compares the answers. */
  perform(step: Step, run: (command: Command) => unknown): void {
    const planned = this.plan(step)
    if (planned === undefined) return
    let value: unknown
    try {
      value = run(planned.command)
    } catch (error) {
      if (!(error instanceof StorageError)) throw error
      assert.ok('error' in planned.expected, `${planned.command.type} failed: ${error.message}`)
      assert.equal(error.code, planned.expected.error)
      return
    }
    if ('error' in planned.expected) {
      assert.fail(`${planned.command.type} should have failed with ${planned.expected.error}`)
    }
    planned.settle(value)
  }
}
