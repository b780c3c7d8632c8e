import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const dist = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))))

/** The door of a checkout in which no addon was ever built; prints what happened as JSON. */
const program = `
import { openChunkStore } from './native/addon.js'
const warnings = []
const log = { trace() {}, debug() {}, info() {}, error() {}, warn: (_, text) => warnings.push(text), child: () => log }
const [directory, backend] = process.argv.slice(2)
try {
  const store = await openChunkStore({ directory, backend, poolBytes: 8388608, log })
  console.log(JSON.stringify({ kind: store.kind, warnings }))
  await store.close()
} catch (reason) {
  console.log(JSON.stringify({ code: reason.code, message: reason.message, warnings }))
}
`

test('without an addon the reference store serves and says so, but never in place of native data', async () => {
  const checkout = await mkdtemp(join(tmpdir(), 'pando-without-addon-'))
  try {
    await cp(join(dist, 'native'), join(checkout, 'native'), { recursive: true })
    await cp(join(dist, 'core/contract'), join(checkout, 'core/contract'), { recursive: true })
    await writeFile(join(checkout, 'package.json'), '{"type":"module"}')
    await writeFile(join(checkout, 'program.js'), program)
    const run = (directory: string, backend: string): Record<string, unknown> => {
      const child = spawnSync(process.execPath, [join(checkout, 'program.js'), directory, backend])
      return JSON.parse(child.stdout.toString() || JSON.stringify({ failed: child.stderr.toString() }))
    }
    const fresh = run(join(checkout, 'data'), 'auto')
    assert.equal(fresh['kind'], 'reference')
    assert.match(String(fresh['warnings']), /not built.*reference store serves/)
    assert.equal(run(join(checkout, 'data'), 'uring')['code'], 'INVALID_CONFIG')
    const native = join(checkout, 'native-data')
    await mkdir(native)
    await writeFile(join(native, 'store-0.pando'), 'written by the native store')
    assert.equal(run(native, 'auto')['code'], 'INVALID_CONFIG')
    assert.equal(run(native, 'reference')['code'], 'INVALID_CONFIG')
    const spdk = run(join(checkout, 'spdk-data'), 'spdk')
    assert.equal(spdk['code'], 'INVALID_CONFIG')
    assert.match(String(spdk['message']), /store\.backend is spdk, but .*npm run build.*choose backend auto/)
    await mkdir(join(checkout, 'labelled'))
    await writeFile(join(checkout, 'labelled', 'bdevs.pando'), 'written by the SPDK back end')
    for (const backend of ['auto', 'reference', 'uring']) {
      const elsewhere = run(join(checkout, 'labelled'), backend)
      assert.equal(elsewhere['code'], 'INVALID_CONFIG')
      assert.match(String(elsewhere['message']), /are on SPDK bdevs/)
    }
  } finally {
    await rm(checkout, { recursive: true, force: true })
  }
})
