import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PolicyDeployment } from '../../../core/contract/policy-deployment.ts'
import { emptyDeployment, withoutVersion, withVersion } from '../../../plugins/host/deployment.ts'

const versionOf = (digest: string, percent: number) => ({ digest, percent, config: '{}', sinceMs: 1 })
const old = versionOf('old', 100)
const good = versionOf('good', 100)

const served = (percent: number): PolicyDeployment => {
  const before = withVersion(withVersion(emptyDeployment, 'nights', old), 'nights', good)
  return withVersion(before, 'nights', versionOf('new', percent))
}
const shown = (deployment: PolicyDeployment) => ({
  versions: deployment.policies[0]?.versions.map(({ digest, percent }) => [digest, percent]),
  history: deployment.policies[0]?.history.map(({ digest }) => digest),
})

for (const [what, percent] of [
  ['canary', 10],
  ['shadow', 0],
] as const) {
  test(`the end of a ${what} leaves what serves beside it alone`, () => {
    const after = withoutVersion(served(percent), 'nights', versionOf('new', percent), 2)
    assert.deepEqual(shown(after), { versions: [['good', 100]], history: ['old'] })
  })

  test(`going back behind a ${what} keeps what served beside it among the versions to go back to`, () => {
    const after = withoutVersion(served(percent), 'nights', versionOf('new', percent), 2, 'old')
    assert.deepEqual(shown(after), { versions: [['old', 100]], history: ['good'] })
  })

  test(`what serves beside a ${what} can be named as where to go`, () => {
    const after = withoutVersion(served(percent), 'nights', versionOf('new', percent), 2, 'good')
    assert.deepEqual(shown(after), { versions: [['good', 100]], history: ['old'] })
  })
}

test('a version that served alone is gone when it is taken out, and is not where the next step back leads', () => {
  const alone = withVersion(withVersion(emptyDeployment, 'nights', old), 'nights', good)
  const after = withoutVersion(alone, 'nights', good, 2, 'old')
  assert.deepEqual(shown(after), { versions: [['old', 100]], history: [] })
})
