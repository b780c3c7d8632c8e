import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../../core/contract/errors.ts'
import { emptyObject, etagOf, putCommand } from '../../../kit/catalog-commands.ts'
import { makeRegion } from '../../../kit/replicated-region.ts'

const names = ['a', 'b', 'c']
/** No device has that much: it is too full from the beginning. */
const full = { minFreeBytes: 2 ** 60 }

test('a gateway whose device is full sends to others while they have room, and says so when nobody has', {
  timeout: 90_000,
}, async (t) => {
  const region = await makeRegion(t, names)
  const [a, b, c] = await Promise.all(names.map((name) => region.open(name, name === 'c' ? {} : full)))
  assert.ok(a && b && c)
  await Promise.all([a, b, c].map(({ catalog }) => catalog.ready()))
  const { id } = await c.catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
  await a.catalog.barrier()
  const put = (node: typeof a, key: string) =>
    node.catalog.submit(putCommand(id, key, emptyObject(etagOf(1))))
  for (const node of [a, b]) {
    await assert.rejects(put(node, 'one'), {
      code: 'UNAVAILABLE',
      message: /other gateways of the region may have room/,
    })
  }
  await put(c, 'one')
  // What makes room is taken everywhere.
  await a.catalog.submit({ type: 'delete-bucket', name: 'nothing' }).catch((error) => {
    assert.equal(error.code, 'NO_SUCH_BUCKET')
  })

  await c.stop()
  // Nobody can say that it has none.
  await new Promise((resolve) => setTimeout(resolve, 1100))
  await assert.rejects(put(a, 'two'), { code: 'UNAVAILABLE' })
  const again = await region.open('c', full)
  await again.catalog.ready()
  const toldOf = async (node: typeof a): Promise<string> => {
    const { code, message } = await put(node, 'three').then(
      () => assert.fail('it was taken'),
      (reason: unknown) => StorageError.from(reason),
    )
    return `${code} ${message}`
  }
  for (const node of [a, b, again]) {
    // What it heard last is told for a second, and so is that one of the others did not answer in time.
    const deadline = performance.now() + 30_000
    let told = await toldOf(node)
    while (told.startsWith('UNAVAILABLE') && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 100))
      told = await toldOf(node)
    }
    assert.match(told, /^INSUFFICIENT_STORAGE .*in the whole region/)
  }
})
