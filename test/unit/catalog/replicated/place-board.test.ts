import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PlaceBoard } from '../../../../core/catalog/replicated/place-board.ts'
import type { Replica } from '../../../../core/catalog/replicated/replica.ts'

test('what a node took over in place of as many entries may have changed rules: its board says so', async () => {
  let notice: Uint8Array | undefined
  const store = { position: 10, rules: 3 }
  const replica = {
    options: {
      board: {
        post: (posted: Uint8Array) => {
          notice = posted
        },
        read: async () => notice,
      },
    },
    row: { founding: { log: 'l' } },
    store,
    selfId: 'a 1',
    rejoin: { isDone: true },
  } as unknown as Replica
  const board = new PlaceBoard(replica)
  board.note()
  assert.deepEqual(await board.read('a 1', 10), { position: 10, rules: 3 })
  // A copy of another branch that is as long: `install` sets the rules to the position.
  store.rules = 10
  board.note()
  assert.deepEqual(await board.read('a 1', 10), { position: 10, rules: 10 })
})
