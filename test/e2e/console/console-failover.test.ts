import assert from 'node:assert/strict'
import test from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { PandoAdmin } from '../../../sdk/admin/index.ts'
import { PandoClient } from '../../../sdk/index.ts'
import type { NodeProcess } from '../../kit/node-process.ts'
import { startRegionOfOne } from '../../kit/region-of-one.ts'
import { openConsole, withoutBrowser } from './console-browser.ts'

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (let left = 600; !(await isSo().catch(() => false)); left--) {
    assert.ok(left > 0, what)
    await sleep(100)
  }
}

test('in Chromium: fail a group over, with the plan and a typed confirmation; the federation with its lag', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async (t) => {
  const [one, two] = await Promise.all([startRegionOfOne(t, 1), startRegionOfOne(t, 2)])
  const adminOf = ({ consoleUrl, accessKey, secretKey }: NodeProcess): PandoAdmin =>
    new PandoAdmin({
      endpoint: consoleUrl,
      credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
    })
  const clientOf = ({ endpoint, accessKey, secretKey }: NodeProcess): PandoClient =>
    new PandoClient({
      endpoints: [endpoint],
      credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
    })
  const [here, there] = [adminOf(one), adminOf(two)]

  // By the SDK for administration, as the command would.
  const { token } = await here.federation.invite()
  await there.federation.join(token)
  await until(
    'the regions are connected',
    async () => (await here.federation.status()).peers[0]?.isConnected === true,
  )
  await clientOf(one).createBucket('orders')
  await clientOf(one).put('orders', 'first', 'one')
  await here.replication.replicate({ bucket: 'orders', regions: [2] })
  await here.failover.set({ group: 'main', buckets: ['orders'] })
  await until('region 2 can take over', async () => {
    const [group] = await there.failover.report()
    const member = group?.members.find(({ region }) => region === 2)
    return member?.blockers.length === 0 && member.isConnected
  })

  await using browser = await openConsole(two.consoleUrl)
  const { page } = browser
  await browser.logIn(two.accessKey, two.secretKey)
  await page.getByText('Your data is safe').waitFor()
  await browser.visit('Federation')
  await page.getByRole('img', { name: /region-1 connected/ }).waitFor()
  await browser.keep('federation')
  await browser.visit('Failover')
  await page.getByText('primary: region 1').waitFor()
  await browser.keep('failover')
  await page.getByRole('button', { name: 'Fail over… main to region 2' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText('hands over when region 2 has everything').waitFor()
  const confirm = dialog.getByRole('button', { name: 'Fail over' })
  assert.ok(await confirm.isDisabled(), 'not before the name is typed')
  await dialog.getByLabel('Name of the group').fill('mian')
  assert.ok(await confirm.isDisabled(), 'nor with another name')
  await dialog.getByLabel('Name of the group').fill('main')
  await browser.keep('failover-plan')
  await confirm.click()
  await page.getByText('Region 2 is the primary of main').waitFor({ timeout: 90_000 })
  await page.getByText('primary: region 2').waitFor()
  await browser.keep('failover-done')
  assert.equal((await there.failover.report())[0]?.record.primary, 2)
  await clientOf(two).put('orders', 'second', 'two')
  assert.equal(await (await clientOf(two).get('orders', 'first')).text(), 'one')
  assert.deepEqual(browser.complaints, [])
})
