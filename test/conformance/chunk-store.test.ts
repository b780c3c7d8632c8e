import { closeSync, existsSync, openSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../../core/contract/logger.ts'
import { loadAddon, openChunkStore, spdkState } from '../../native/addon.ts'
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

  const spdk = spdkState()
  if (spdk.version === '') {
    test('native spdk stores', { skip: spdk.reason }, () => {})
  } else {
    const spdkMemoryBytes = 1536 * 1024 * 1024
    proveChunkStore(test, {
      name: 'native spdk aio',
      persistent: true,
      open({ directory, poolBytes }) {
        const path = join(directory, 'disk')
        if (!existsSync(path)) {
          closeSync(openSync(path, 'wx'))
          truncateSync(path, capacityBytes)
        }
        const bdevs = [{ kind: 'aio', path }] as const
        return openChunkStore({
          directory,
          poolBytes,
          backend: 'spdk',
          bdevs,
          spdkMemoryBytes,
          log: silentLogger,
        })
      },
    })
    proveChunkStore(test, {
      name: 'native spdk malloc',
      persistent: false,
      open: ({ directory, poolBytes }) =>
        openChunkStore({
          directory,
          poolBytes,
          backend: 'spdk',
          bdevs: [{ kind: 'malloc', size: 768 * 1024 * 1024, volatile: true }],
          spdkMemoryBytes,
          log: silentLogger,
        }),
    })
  }
}
