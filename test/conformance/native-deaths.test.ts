import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { loadAddon } from '../../native/addon.ts'
import { nativeShm, nativeTcp } from '../../native/native-transports.ts'
import { proveDeaths } from '../kit/native-death.ts'

if (existsSync('native/build/release/pando.node') && !(loadAddon() instanceof Error)) {
  const folder = await mkdtemp(join(tmpdir(), 'pando-deaths-'))
  after(() => rm(folder, { recursive: true }))
  let sockets = 0
  const socket = async (): Promise<string> => join(folder, `${sockets++}.sock`)
  proveDeaths(test, { name: 'native tcp', adapter: nativeTcp(), address: async () => '127.0.0.1:0' })
  proveDeaths(test, { name: 'native shm', adapter: nativeShm(), address: socket })
} else {
  const skip = 'the native data plane is not built (npm run build)'
  test('the death of a native peer', { skip }, () => undefined)
}
