import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { loadConfig } from '../../../core/node/config/load.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { openPayloadSeals } from '../../../core/node/federation/payload-keys.ts'

test('a file of secrets that cannot be meant is refused with its key and path', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'pando-payload-'))
  t.after(() => rm(directory, { recursive: true }))
  const path = join(directory, 'key')
  const open = (region = '2') => {
    const text = JSON.stringify({ tunnel: { payloadKeys: { [region]: path } } })
    const config = loadConfig({ file: { name: 'f', text }, environment: {} })
    return openPayloadSeals({ config, environment: realEnvironment, log: silentLogger })
  }
  const refused = async (content: string, words: RegExp, mode = 0o600): Promise<void> => {
    await writeFile(path, content)
    await chmod(path, mode)
    await assert.rejects(open(), (error: Error) => {
      assert.match(error.message, words)
      assert.ok(error.message.includes('tunnel.payloadKeys.2') && error.message.includes(path))
      // Not even of a wrong one.
      assert.ok(!error.message.includes('abab'))
      return true
    })
  }
  await assert.rejects(open(), /cannot read/)
  await refused('', /1 to 4 keys/)
  await refused('abab', /64 hexadecimal digits/)
  await refused(`${'ab'.repeat(32)}\n`.repeat(5), /1 to 4 keys/)
  await refused('ab'.repeat(32), /chmod 600/, 0o644)
  await chmod(path, 0o600)
  await writeFile(path, `${'ab'.repeat(32)}\n${'cd'.repeat(32)}\n`)
  assert.deepEqual([...(await open()).keys()], [2])
  assert.throws(() => open('hub'), { code: 'INVALID_CONFIG' })
})
