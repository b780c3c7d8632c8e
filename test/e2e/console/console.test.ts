import assert from 'node:assert/strict'
import { createHash, randomFillSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { admitAll, policyModule } from '../../kit/policies/assemble.ts'
import { withoutBrowser } from './console-browser.ts'
import { openConsoleNode } from './console-node.ts'

/** As a person would choose it; more for long runs by hand: PANDO_UPLOAD_MB=4000. */
const uploadBytes = Number(process.env['PANDO_UPLOAD_MB'] ?? 100) * 1_000_000

/** What a page that took names for markup would run. */
const hostileKey = `"><img src=x onerror="window.broken=1"><svg onload=window.broken=1>.txt`

const version = (number: number) =>
  policyModule({
    name: 'demo',
    version: `${number}.0.0`,
    hooks: { admit: `(i32.store offset=4 (local.get $out) (i32.const ${number})) ${admitAll}` },
    manifest: { reasons: { [number]: `because of ${number}` } },
  })

test('in Chromium: log in, upload 100 MB with progress, roll a policy back, and every page', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async (t) => {
  const scratch = await mkdtemp(join(tmpdir(), 'pando-console-'))
  t.after(() => rm(scratch, { recursive: true, force: true }))
  await using site = await openConsoleNode()
  const { node, owner, admin, browser, page } = site
  await owner.createBucket('photos')
  await owner.put('photos', `a <b>folder/${hostileKey}`, 'x')
  // One part of the upload waits until the page has been looked at: whatever the machine does, it is seen half-way.
  await page.addInitScript(`{
    const send = window.fetch
    const looked = new Promise((resolve) => { window.goOn = resolve })
    window.fetch = async (url, init) => {
      if (/holiday\\.mov\\?.*partNumber=7(&|$)/.test(String(url))) await looked
      return send(url, init)
    }
  }`)

  // Log in: a wrong secret is refused in words, the right one leads in, and no script can read what keeps the session.
  await browser.logIn(node.accessKey, 'not the secret')
  await page.getByRole('alert').getByText('is not right').waitFor()
  await browser.keep('login-refused')
  await site.enter()
  assert.equal(await page.evaluate('document.cookie'), '')
  const kept = await page.evaluate(
    'JSON.stringify([{ ...localStorage }, { ...sessionStorage }]) + document.documentElement.outerHTML',
  )
  assert.ok(!String(kept).includes(node.secretKey), 'nothing of the secret stays in the page')
  await browser.keep('overview')
  await page.getByRole('button', { name: 'Dark' }).click()
  await browser.keep('overview-dark')
  await page.getByRole('button', { name: 'Auto' }).click()

  await browser.visit('Buckets')
  await page.getByRole('button', { name: 'Count the objects of photos' }).click()
  await page.getByText('1 object, 1 B').waitFor()
  await browser.keep('buckets')
  await page.getByRole('link', { name: 'photos' }).click()
  await page.getByRole('link', { name: 'a <b>folder/' }).click()
  await page.getByText(hostileKey).first().waitFor()
  await browser.keep('objects')
  assert.equal(await page.evaluate('window.broken'), undefined, 'a name is never markup')

  // Upload with progress.
  const body = randomFillSync(Buffer.alloc(uploadBytes))
  const path = join(scratch, 'holiday.mov')
  await writeFile(path, body)
  await page.getByRole('navigation', { name: 'Folder' }).getByRole('link', { name: 'photos' }).click()
  // Not before the folder is another one: what is chosen goes into the one that is shown.
  await page.getByRole('link', { name: 'a <b>folder/' }).waitFor()
  // Noted in the page: whoever looks from outside may come when only the part that waits is left.
  await page.evaluate(`{
    window.seen = new Set()
    new MutationObserver(() => {
      const value = document.querySelector('progress[aria-label="Upload of holiday.mov"]')?.value
      if (value > 0 && value < ${uploadBytes}) window.seen.add(value)
    }).observe(document.body, { subtree: true, childList: true, attributeFilter: ['value'] })
  }`)
  await page.getByLabel('Files to upload').setInputFiles(path)
  for (let tries = 0; Number(await page.evaluate('window.seen.size')) < 3; tries++) {
    assert.ok(tries < 900, 'the progress of the upload is not shown')
    await sleep(100)
  }
  await browser.keep('upload-running')
  await page.evaluate('window.goOn()')
  await page.getByText('durable').waitFor()
  await browser.keep('upload-done')
  const stored = await (await owner.get('photos', 'holiday.mov')).bytes()
  assert.equal(sha256(stored), sha256(body), 'what was chosen is what is stored')
  const download = page.waitForEvent('download')
  await page.getByRole('link', { name: 'Download holiday.mov' }).click()
  assert.equal((await download).suggestedFilename(), 'holiday.mov')
  await (await download).saveAs(join(scratch, 'back.mov'))
  await page.getByRole('button', { name: 'Delete holiday.mov' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
  await page.getByRole('link', { name: 'Download holiday.mov' }).waitFor({ state: 'detached' })
  await owner.head('photos', 'holiday.mov').then(
    () => assert.fail('it is still there'),
    (error: unknown) => assert.match(String(error), /NotFound/),
  )

  // A policy, its successor, and back.
  const [first, second] = await Promise.all(
    [1, 2].map(async (number) => (await admin.policies.push(version(number))).digest),
  )
  await admin.policies.activate({ name: 'demo', digest: first ?? '' })
  await admin.policies.activate({ name: 'demo', digest: second ?? '' })
  const serving = async (): Promise<string | undefined> =>
    (await admin.policies.list()).deployment?.policies.find(({ name }) => name === 'demo')?.versions.at(-1)
      ?.digest
  assert.equal(await serving(), second)
  await owner.listBuckets()
  await browser.visit('Policies')
  const demo = page.getByRole('region', { name: 'demo', exact: true })
  await demo.getByRole('cell', { name: '2.0.0' }).waitFor()
  await browser.keep('policies')
  await page.getByRole('button', { name: 'Roll back demo' }).click()
  await browser.keep('policy-rollback')
  await page.getByRole('dialog').getByRole('button', { name: 'Roll back' }).click()
  await demo.getByRole('cell', { name: '1.0.0' }).waitFor()
  assert.equal(await serving(), first)
  await browser.keep('policy-rolled-back')

  await browser.visit('Access keys')
  await page.getByRole('button', { name: 'New key' }).click()
  await page.getByLabel('What it is for').fill('backup')
  await page.getByRole('button', { name: 'Make it' }).click()
  await page.getByText('Nobody can be shown the secret again').waitFor()
  await page.getByRole('button', { name: 'I have it' }).click()
  await page.getByText('backup').waitFor()
  await browser.keep('keys')
  await browser.visit('Links')
  await page.getByRole('region', { name: 'What this machine can do' }).first().waitFor()
  await browser.keep('links')
  await browser.visit('Classes of service')
  await page.getByRole('columnheader', { name: 'Served' }).waitFor()
  await browser.keep('classes')
  await browser.visit('Events')
  await page.getByText('RollbackPolicy demo').waitFor()
  await browser.keep('events')

  await page.getByRole('button', { name: 'Log out' }).click()
  await page.getByRole('button', { name: 'Log in' }).waitFor()
  await page.reload()
  await page.getByRole('button', { name: 'Log in' }).waitFor()
  assert.deepEqual(browser.complaints, [])
})

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
