import type { Catalog, Command, CommandResult } from '../contract/catalog.ts'
import type { Environment } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import { encodeEntry, entryRandomBytes, sessionBytes } from './entry.ts'
import { createReads } from './reader.ts'
import { decodeResult } from './result.ts'
import { applyEntries } from './state-machine.ts'
import type { Tables } from './tables.ts'

export interface DirectCatalogOptions {
  readonly tables: Tables
  readonly environment: Environment
  readonly regionId: number
}

export interface DirectCatalog extends Catalog {
  /** `submit` without a promise: throws what the state machine answers. */
  run<C extends Command>(command: C): CommandResult<C>
  /** Makes the entry that `run` would apply: for tests that crash, repeat and reorder entries. */
  propose(command: Command): Uint8Array
  /** Applies one entry in a transaction of its own and gives its answer. */
  apply(entry: Uint8Array): Uint8Array
}

/** The catalog's state machine on the caller's thread, one transaction for each entry: the in-memory twin. */
export function createDirectCatalog(options: DirectCatalogOptions): DirectCatalog {
  const { tables, environment, regionId } = options
  const session = environment.randomness.fill(new Uint8Array(sessionBytes))
  let sequence = 0

  const propose = (command: Command): Uint8Array =>
    encodeEntry({
      session,
      sequence: ++sequence,
      nowMs: environment.clock.now(),
      regionId,
      random: environment.randomness.fill(new Uint8Array(entryRandomBytes)),
      command,
    })

  let appliedCount = 0
  const apply = (entry: Uint8Array): Uint8Array => {
    appliedCount++
    const [applied] = tables.transact((writer) => applyEntries(writer, [entry], { retainEntries: 0 }))
    if (applied === undefined) throw new Error('an entry has an answer')
    return applied.answer
  }

  function run<C extends Command>(command: C): CommandResult<C> {
    const result = decodeResult(command, apply(propose(command)))
    if (result instanceof StorageError) throw result
    return result
  }

  return {
    ...createReads(tables),
    run,
    propose,
    apply,
    submit: async (command) => run(command),
    async barrier() {},
    rulesSeen: () => appliedCount,
    close: () => tables.close(),
  }
}
