import assert from 'node:assert/strict'
import test from 'node:test'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

/** What an application with all of the client carries. */
const limitBytes = 40_000

test('the bundle for browsers is small, whole and without anything of Node', async (t) => {
  const { outputFiles, metafile } = await build({
    entryPoints: ['sdk/index.ts'],
    ...{ bundle: true, minify: true, write: false, metafile: true },
    ...{ format: 'esm', platform: 'browser', target: 'es2022' },
  })
  const code = outputFiles[0]?.contents ?? new Uint8Array()
  const gzipped = gzipSync(code, { level: 9 }).length
  t.diagnostic(`bundle: ${code.length} bytes minified, ${gzipped} gzipped`)
  assert.ok(gzipped > 1000 && gzipped < limitBytes, `${gzipped} bytes gzipped`)
  const inputs = Object.keys(metafile.inputs)
  assert.deepEqual(
    inputs.filter((path) => !path.startsWith('sdk/')),
    [],
  )
  const imports = Object.values(metafile.outputs).flatMap((output) => output.imports)
  assert.deepEqual(imports, [])
  const text = new TextDecoder().decode(code)
  assert.doesNotMatch(text, /\bimport\s*\(|\brequire\s*\(|\bBuffer\b/)
})
