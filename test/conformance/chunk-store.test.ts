import { test } from 'node:test'
import { openReferenceStore } from '../../native/reference/reference-store.ts'
import { proveChunkStore } from '../kit/chunk-store.ts'

proveChunkStore(test, {
  name: 'reference',
  persistent: true,
  open: ({ directory, poolBytes }) => openReferenceStore({ directory, poolBytes }),
})
