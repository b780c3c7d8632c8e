import assert from 'node:assert/strict'
import type { MemoryTables } from '../../core/catalog/memory-tables.ts'
import { sha256 } from '../../core/catalog/policy-rows.ts'
import { createReads } from '../../core/catalog/reader.ts'
import { decodeResult } from '../../core/catalog/result.ts'
import { type Applied, applyEntries } from '../../core/catalog/state-machine.ts'
import type { Command } from '../../core/contract/catalog.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { PolicyDeployment } from '../../core/contract/policy-deployment.ts'
import { failAfter, isCrash } from './crashing-writer.ts'
import type { SeededRandom } from './seeded-random.ts'

const hex = (bytes: Uint8Array = new Uint8Array()): string => Buffer.from(bytes).toString('hex')

/**
 * Pushes and deploys policies, now and then from what it knew a while ago; the commit crashes between any two writes, and an
 * entry is ordered twice. The epoch never falls and never skips, and what is deployed is there.
 */
export class PolicyOperator {
  readonly #tables: MemoryTables
  readonly #random: SeededRandom
  readonly #propose: (command: Command) => Uint8Array
  #known: PolicyDeployment = { epoch: 0, policies: [] }

  constructor(tables: MemoryTables, random: SeededRandom, propose: (command: Command) => Uint8Array) {
    this.#tables = tables
    this.#random = random
    this.#propose = propose
  }

  step(): void {
    const reads = createReads(this.#tables)
    const before = reads.policyDeployment()
    // Otherwise it works from an old one, as somebody does who was overtaken.
    if (this.#random.chance(0.8)) this.#known = before
    const command = this.#random.chance(0.6) ? this.#push() : this.#deploy()
    const entry = this.#propose(command)
    const first = this.#apply(entry, this.#random.chance(0.2))
    const between = reads.policyDeployment()
    const mayDeploy = command.type === 'deploy-policies' && command.deployment.epoch === before.epoch + 1
    assert.ok(between.epoch === before.epoch || (mayDeploy && between.epoch === before.epoch + 1))
    if (first === undefined) assert.deepEqual(between, before, 'a commit that crashed has changed nothing')
    // Repeated: with the same answer where it had one, and one effect in any case.
    const again = this.#apply(entry, false)
    const result = decodeResult(command, again?.answer ?? new Uint8Array())
    // As text: what is compared byte for byte would be printed byte for byte, with the buffers behind it.
    if (first !== undefined) assert.equal(hex(again?.answer), hex(first.answer))
    const after = reads.policyDeployment()
    if (command.type === 'deploy-policies' && !(result instanceof StorageError)) {
      assert.deepEqual(after, command.deployment)
    } else assert.deepEqual(after, before)
    for (const { versions, history } of after.policies) {
      for (const { digest } of [...versions, ...history]) {
        assert.ok(reads.policyPackage(digest) !== undefined, 'what is deployed is there')
      }
    }
  }

  #push(): Command {
    const wasm = Uint8Array.of(0, 0x61, 0x73, 0x6d, this.#random.below(60))
    return { type: 'put-policy-package', digest: sha256(wasm), content: { wasm } }
  }

  #deploy(): Command {
    const packages = createReads(this.#tables).policyPackages()
    const version = () => {
      // Sometimes one that has gone, or was never there.
      const isThere = packages.length > 0 && this.#random.chance(0.9)
      const digest = isThere
        ? this.#random.pick(packages).digest
        : sha256(Uint8Array.of(this.#random.below(256)))
      return { digest, percent: 100, config: '{}', sinceMs: 1 }
    }
    const history = Array.from({ length: this.#random.below(4) }, version)
    return {
      type: 'deploy-policies',
      deployment: {
        epoch: this.#known.epoch + 1,
        policies: [{ name: 'demo', versions: [version()], history }],
      },
    }
  }

  #apply(entry: Uint8Array, crashes: boolean): Applied | undefined {
    try {
      return this.#tables.transact(
        (writer) =>
          applyEntries(crashes ? failAfter(writer, this.#random.below(6)) : writer, [entry], {
            retainEntries: 1e9,
          })[0],
      )
    } catch (error) {
      if (!isCrash(error)) throw error
      return undefined
    }
  }
}
