import { test } from 'node:test'
import { silentLogger } from '../../core/contract/logger.ts'
import { loadAddon, openChunkStore } from '../../native/addon.ts'
import { openReferenceStore } from '../../native/reference/reference-store.ts'
import { proveChunkStore } from '../kit/chunk-store.ts'

proveChunkStore(test, {
  name: 'reference',
  persistent: true,
  open: ({ directory, poolBytes }) => openReferenceStore({ directory, poolBytes }),
})

const addon = loadAddon()
if (addon instanceof Error) {
  test('native stores', { skip: addon.message }, () => {})
} else {
  const capacityBytes = 1024 * 1024 * 1024
  for (const backend of ['uring', 'posix', 'memory'] as const) {
    proveChunkStore(test, {
      name: `native ${backend}`,
      persistent: backend !== 'memory',
      open: ({ directory, poolBytes }) =>
        openChunkStore({ directory, poolBytes, backend, capacityBytes, reactors: 1, log: silentLogger }),
    })
  }
}
