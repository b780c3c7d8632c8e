import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { issueNodeCertificate, makeAuthority } from '../../../core/cluster/keys/certificate.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { openServerCertificate } from '../../../core/node/server-certificate.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

const authority = await makeAuthority(1, realEnvironment)
const issue = (name: string) => issueNodeCertificate(authority, { regionId: 1, name }, [], realEnvironment)

async function placed(t: TestContext) {
  const place = await mkdtemp(join(tmpdir(), 'pando-cert-'))
  t.after(() => rm(place, { recursive: true, force: true }))
  const files = { certFile: join(place, 'cert.pem'), keyFile: join(place, 'key.pem') }
  const problems = new Map<string, string>()
  const clock = new FakeClock()
  clock.stepWall(Date.now() - clock.now())
  const health = {
    report: (name: string, sentence: string) => void problems.set(name, sentence),
    clear: (name: string) => void problems.delete(name),
  }
  const open = () => openServerCertificate({ files, health, clock, log: silentLogger })
  /** The clock goes on, and what it causes has read its files. */
  const pass = async (ms: number): Promise<void> => {
    await clock.advance(ms)
    // Only then it waits for the next look.
    for (let look = 0; look < 2000 && clock.pending === 0; look++)
      await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return { files, problems, open, pass }
}

test('files are read again by themselves, and a pair that is half written waits', async (t) => {
  const { files, problems, open, pass } = await placed(t)
  const [first, second] = [await issue('one'), await issue('two')]
  await writeFile(files.certFile, first.certificate)
  await writeFile(files.keyFile, first.key)
  const certificate = await open()
  const shown: string[] = []
  certificate.onChange((identity) => shown.push(identity.certificate))
  await writeFile(files.certFile, second.certificate)
  await pass(5_000)
  assert.equal(certificate.current().certificate, first.certificate)
  assert.match(problems.get('tls') ?? '', /is not the key of/)
  await writeFile(files.keyFile, second.key)
  await pass(5_000)
  assert.deepEqual(shown, [second.certificate])
  assert.equal(certificate.current().key, second.key)
  assert.deepEqual([...problems], [])
  await pass(730 * 86_400_000)
  assert.match(problems.get('tls-end') ?? '', /ends at|has ended/)
  await certificate.stop()
})

test('what is no certificate, no key or not there is told by its key of the configuration', async (t) => {
  const { files, open } = await placed(t)
  await assert.rejects(open(), { code: 'INVALID_CONFIG', message: /tls\.(cert|key)File: cannot read/ })
  const { certificate, key } = await issue('one')
  await writeFile(files.certFile, 'nonsense')
  await writeFile(files.keyFile, key)
  await assert.rejects(open(), { code: 'INVALID_CONFIG', message: /certFile: .* holds no certificate/ })
  await writeFile(files.certFile, certificate)
  await writeFile(files.keyFile, 'nonsense')
  await assert.rejects(open(), { code: 'INVALID_CONFIG', message: /keyFile: .* holds no private key/ })
})
