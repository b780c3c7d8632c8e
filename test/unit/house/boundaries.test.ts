import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import test from 'node:test'

/** One import per rule that must be refused: file, what it imports, the rule's name. */
const violations: readonly (readonly [string, string, string])[] = [
  ['core/contract/a.ts', '../catalog/ok.ts', 'contract-imports-nothing'],
  ['core/contract/b.ts', 'zod', 'contract-needs-no-package'],
  ['core/catalog/a.ts', '../gateway/ok.ts', 'core-catalog'],
  ['core/cluster/a.ts', '../gateway/ok.ts', 'core-cluster'],
  ['core/protocol/a.ts', '../gateway/ok.ts', 'core-protocol'],
  ['core/gateway/a.ts', '../catalog/ok.ts', 'core-gateway'],
  ['core/qos/a.ts', '../gateway/ok.ts', 'core-qos'],
  ['core/control/a.ts', '../../native/ok.ts', 'core-control'],
  ['core/console/a.ts', '../node/ok.ts', 'core-console'],
  ['core/console/web/a.tsx', '../../contract/ok.ts', 'core-console-web'],
  ['core/telemetry/a.ts', '../catalog/ok.ts', 'core-telemetry'],
  ['federation/a.ts', '../core/catalog/ok.ts', 'federation'],
  ['plugins/a.ts', '../core/telemetry/ok.ts', 'plugins'],
  ['sdk/a.ts', '../core/catalog/ok.ts', 'sdk'],
  ['sdk/b.ts', './policy/good.ts', 'sdk'],
  ['sdk/c.ts', './admin-grpc/good.ts', 'sdk'],
  ['sdk/admin-grpc/a.ts', '../../core/node/ok.ts', 'sdk-admin-grpc'],
  ['sdk/policy/a.ts', '../../core/node/ok.ts', 'sdk-policy'],
  ['native/a.ts', '../core/catalog/ok.ts', 'native'],
  ['core/node/a.ts', '../../test/ok.ts', 'product-does-not-import-test'],
]
/** Imports that must pass. */
const allowed: readonly (readonly [string, string])[] = [
  ['core/gateway/good.ts', '../contract/ok.ts'],
  ['core/gateway/good-log.ts', '../telemetry/ok.ts'],
  ['core/node/good.ts', '../../native/ok.ts'],
  ['core/console/good.ts', '../control/ok.ts'],
  ['core/console/web/good.tsx', '../../../sdk/ok.ts'],
  ['sdk/admin-grpc/good.ts', '../../core/control/ok.ts'],
  ['sdk/policy/good.ts', '../../plugins/abi/ok.ts'],
  ['federation/good.ts', '../core/contract/ok.ts'],
  ['test/good.ts', '../core/node/ok.ts'],
]

test('every boundary can fail, and what the table allows passes', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pando-boundaries-'))
  try {
    for (const name of ['.dependency-cruiser.cjs', 'tsconfig.json', 'package.json'])
      cpSync(name, join(folder, name))
    symlinkSync(resolve('node_modules'), join(folder, 'node_modules'))
    const write = (path: string, text: string) => {
      mkdirSync(join(folder, dirname(path)), { recursive: true })
      writeFileSync(join(folder, path), text)
    }
    for (const [path, target] of [...violations, ...allowed]) {
      write(path, `import { ok } from '${target}'\nexport const value = ok\n`)
      if (target.startsWith('.')) write(join(dirname(path), target), 'export const ok = 1\n')
    }
    write('core/qos/round.ts', "import { trip } from './trip.ts'\nexport const round = () => trip\n")
    write('core/qos/trip.ts', "import { round } from './round.ts'\nexport const trip = () => round\n")

    const run = spawnSync(
      resolve('node_modules/.bin/depcruise'),
      [
        '--config',
        '.dependency-cruiser.cjs',
        '--output-type',
        'json',
        'core',
        'federation',
        'native',
        'plugins',
        'sdk',
        'test',
      ],
      { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 26 },
    )
    const report: { summary: { violations: { from: string; rule: { name: string; severity: string } }[] } } =
      JSON.parse(run.stdout)
    const found = report.summary.violations.map(({ from, rule }) => `${rule.severity} ${rule.name} ${from}`)
    const expected = violations.map(([from, , rule]) => `error ${rule} ${from}`)
    const cycle = ['error no-cycles core/qos/round.ts']
    assert.deepEqual(found.toSorted(), [...expected, ...cycle].toSorted())
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
