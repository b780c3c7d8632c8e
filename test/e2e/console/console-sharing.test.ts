import assert from 'node:assert/strict'
import test from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { PandoAdmin } from '../../../sdk/admin/index.ts'
import { PandoClient } from '../../../sdk/index.ts'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'
import { admitAll, policyModule } from '../../kit/policies/assemble.ts'
import { openConsole, withoutBrowser } from './console-browser.ts'

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (let left = 300; !(await isSo().catch(() => false)); left--) {
    assert.ok(left > 0, what)
    await sleep(100)
  }
}

test('in Chromium: keys and policies are shared with a joined region, and taken back', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async () => {
  const starting = [1, 2].map((regionId) => startNode({ config: { regionId, region: `region-${regionId}` } }))
  await using one = (await starting[0]) as NodeProcess
  await using two = (await starting[1]) as NodeProcess
  const adminOf = ({ consoleUrl, accessKey, secretKey }: NodeProcess): PandoAdmin =>
    new PandoAdmin({
      endpoint: consoleUrl,
      credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
    })
  const [here, there] = [adminOf(one), adminOf(two)]
  await using browser = await openConsole(one.consoleUrl)
  const { page } = browser
  await browser.logIn(one.accessKey, one.secretKey)
  await page.getByText('Your data is safe').waitFor()
  await browser.visit('Sharing')
  await page.getByText('This region is on its own').waitFor()
  await browser.keep('sharing-alone')

  await there.federation.join((await here.federation.invite()).token)
  const { key, secretAccessKey } = await here.keys.create({ name: 'field team', account: 'alice' })
  const wasm = policyModule({ name: 'courtesy', version: '1.0.0', hooks: { admit: admitAll } })
  const { digest } = await here.policies.push(wasm)

  // What the other region allows is said there; what is taken of it here, here.
  await there.sharing.accept(1, ['keys', 'policies'])
  await page.getByRole('button', { name: 'Change what is taken of region-2' }).click()
  await page.getByRole('dialog').getByLabel('Access keys').check()
  await browser.keep('sharing-accept')
  await page.getByRole('dialog').getByRole('button', { name: 'Take this' }).click()
  await page.getByText('Of region-2 keys are taken.').waitFor()
  assert.deepEqual((await here.sharing.status()).regions[0]?.accepts, ['keys'])

  await page.getByRole('button', { name: 'Share field team' }).click()
  await page.getByRole('dialog').getByLabel('region-2 (2)').check()
  await browser.keep('sharing-key')
  await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click()
  await page.getByText('field team is offered to region 2.').waitFor()
  const credentials = { accessKeyId: key.accessKeyId, secretAccessKey }
  const abroad = new PandoClient({ endpoints: [two.endpoint], credentials })
  await until('the key is good in the other region', async () => (await abroad.listBuckets()).length === 0)
  await page.getByText('1, as they are').waitFor()
  // With it one gets into the console over there, too: as what it is there.
  const session = await new PandoAdmin({ endpoint: two.consoleUrl, credentials }).login(
    key.accessKeyId,
    secretAccessKey,
  )
  assert.deepEqual([session.account, session.isAdmin], ['alice~1', false])

  await page.getByRole('button', { name: 'Offer a policy' }).click()
  await browser.keep('sharing-offer')
  await page.getByRole('dialog').getByRole('button', { name: 'Offer', exact: true }).click()
  await page.getByText('courtesy is offered').waitFor()
  await page.getByRole('cell', { name: 'accepted', exact: true }).waitFor()
  await until('it serves there', async () =>
    ((await there.policies.list()).deployment?.policies ?? []).some(({ versions }) =>
      versions.some((version) => version.digest === digest),
    ),
  )
  await browser.keep('sharing')
  await page.getByRole('button', { name: 'Dark' }).click()
  await browser.keep('sharing-dark')
  await page.getByRole('button', { name: 'Auto' }).click()

  await page.getByRole('button', { name: /^Withdraw courtesy/ }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Withdraw' }).click()
  await page.getByText('courtesy is offered no more.').waitFor()
  assert.deepEqual((await here.sharing.status()).publications, [])

  await page.getByRole('button', { name: 'Share field team' }).click()
  await page.getByRole('dialog').getByLabel('region-2 (2)').uncheck()
  await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click()
  await page.getByText('field team is good in this region only.').waitFor()
  await until('the key has ended in the other region', () =>
    abroad.listBuckets().then(
      () => false,
      () => true,
    ),
  )

  await page.getByRole('button', { name: 'Change what is taken of region-2' }).click()
  await page.getByRole('dialog').getByLabel('Access keys').uncheck()
  await page.getByRole('dialog').getByText('end at once').waitFor()
  await page.getByRole('dialog').getByRole('button', { name: 'Give its keys up' }).click()
  await page.getByText('Of region-2 nothing is taken.').waitFor()
  assert.deepEqual((await here.sharing.status()).regions[0]?.accepts, [])
  assert.deepEqual(browser.complaints, [])
})
