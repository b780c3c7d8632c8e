import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type EmbeddedCatalog, openCatalog } from '../../core/catalog/catalog.ts'
import { encodeEntry, entryRandomBytes, sessionBytes } from '../../core/catalog/entry.ts'
import { realEnvironment } from '../kit/catalog-commands.ts'
import { proveOrderedLog } from '../kit/ordered-log.ts'

proveOrderedLog('local log', test, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'pando-log-'))
  const openLog = (): Promise<EmbeddedCatalog> =>
    openCatalog({
      directory,
      environment: realEnvironment,
      regionId: 1,
      inlineBytes: 4096,
      retainEntries: 1000,
    })
  let catalog = await openLog()
  t.after(async () => {
    await catalog.close()
    await rm(directory, { recursive: true, force: true })
  })
  const session = realEnvironment.randomness.fill(new Uint8Array(sessionBytes))
  let sequence = 0
  return {
    log: catalog.log,
    makeEntry: () =>
      encodeEntry({
        session,
        sequence: ++sequence,
        nowMs: Date.now(),
        regionId: 1,
        random: new Uint8Array(entryRandomBytes),
        command: { type: 'create-bucket', name: `bucket-${sequence}`, owner: 'root' },
      }),
    async reopen() {
      await catalog.close()
      catalog = await openLog()
      return catalog.log
    },
  }
})
