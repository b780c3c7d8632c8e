import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { abiNames } from '../../../plugins/abi/idl.ts'
import { customSection } from '../../../plugins/abi/module-file.ts'
import { parseVectors } from '../../../plugins/abi/vectors.ts'
import { examineModule } from '../../../plugins/host/examine-module.ts'
import { buildPolicy } from '../../../plugins/kit/build-policy.ts'
import { meteredPolicy } from '../../../plugins/kit/metered-policy.ts'
import { readProject } from '../../../plugins/kit/policy-project.ts'
import { runVectors } from '../../../plugins/kit/run-vectors.ts'

const can = (command: string, args: readonly string[]) =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0
const missing =
  !can('wasm-ld', ['--version']) ||
  !/wasm32/.test(spawnSync('clang', ['--print-targets'], { encoding: 'utf8' }).stdout ?? '')
    ? 'clang with wasm32 and wasm-ld are not installed: npm run setup -- --wasm'
    : false

test('a policy in C, compiled by clang as its README says, is one like any other', {
  skip: missing,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pando-c-policy-'))
  try {
    cpSync('plugins/pdk/c', folder, { recursive: true })
    const example = join(folder, 'example')
    mkdirSync(join(example, 'build'))
    const command =
      /^clang .*$/m.exec(readFileSync('plugins/pdk/c/example/README.md', 'utf8'))?.[0].split(' ') ?? []
    const [clang = '', ...args] = command
    const compiled = spawnSync(clang, ['-Wall', '-Wextra', '-Werror', ...args], {
      cwd: example,
      encoding: 'utf8',
    })
    assert.equal(compiled.status, 0, compiled.stderr)

    const { wasm, hooks } = await buildPolicy(readProject(example))
    assert.deepEqual(hooks, ['classify', 'plan'])
    assert.deepEqual(examineModule(wasm).warnings, [])
    const file = parseVectors(customSection(wasm, abiNames.vectorsSection) ?? new Uint8Array())
    assert.ok(!('problem' in file))
    const outcomes = runVectors(meteredPolicy(wasm), file)
    assert.equal(outcomes.length, 7)
    assert.deepEqual(
      outcomes.filter(({ difference }) => difference !== undefined),
      [],
    )
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
