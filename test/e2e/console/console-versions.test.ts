import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import test from 'node:test'
import { withoutBrowser } from './console-browser.ts'
import { openConsoleNode } from './console-node.ts'

test('in Chromium, by keyboard: versions are kept, shown, restored, downloaded and deleted', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async () => {
  await using site = await openConsoleNode()
  const { node, owner, browser, page } = site
  await owner.createBucket('papers')
  const text = async (): Promise<string> => (await owner.get('papers', 'drafts/report.txt')).text()
  const answer = (button: string): Promise<void> =>
    page.getByRole('dialog').getByRole('button', { name: button, exact: true }).press('Enter')
  await site.enter()

  await page.goto(`${node.consoleUrl}/#/buckets/papers`)
  await page.getByText('no versions').waitFor()
  assert.equal(await page.getByRole('link', { name: 'All versions' }).count(), 0, 'there are none to show')
  await page.getByRole('button', { name: 'Keep versions' }).press('Enter')
  await browser.keep('versions-switch')
  await answer('Keep versions')
  await page.getByRole('status').getByText('every version is kept').waitFor()
  assert.equal(await owner.getVersioning('papers'), 'enabled')

  const one = await owner.put('papers', 'drafts/report.txt', 'one', { metadata: { author: 'Ada' } })
  const two = await owner.put('papers', 'drafts/report.txt', 'two')
  await page.goto(`${node.consoleUrl}/#/buckets/papers/drafts%2F`)
  // The question says what the page knows when it is asked.
  await page.getByText('keeps versions').waitFor()
  await page.getByRole('button', { name: 'Delete report.txt' }).press('Enter')
  await page.getByText('A delete marker hides it').waitFor()
  await answer('Delete')
  await page.getByRole('status').getByText('report.txt is deleted.').waitFor()
  // At the listing, and not lost with the row.
  await browser.focusIs(/Nothing here/)
  await assert.rejects(owner.head('papers', 'drafts/report.txt'), { code: 'NotFound' })

  await page.getByRole('link', { name: 'All versions' }).press('Enter')
  const rows = page.getByRole('table', { name: 'Versions in papers/drafts/' }).locator('tbody tr')
  await rows.nth(2).waitFor()
  const states = async (): Promise<readonly string[]> =>
    (await rows.locator('td:nth-child(2)').allTextContents()).map((state) => state.trim())
  assert.deepEqual(await states(), ['deleted', 'older', 'older'])
  assert.deepEqual((await rows.locator('code').allTextContents()).slice(1), [two.versionId, one.versionId])
  await browser.keep('versions-deleted')
  await rows.nth(0).getByRole('button', { name: 'Undelete report.txt' }).press('Enter')
  await answer('Undelete')
  await page.getByText('The object is back.').waitFor()
  // The rows are read anew only after it is told.
  await rows.nth(2).waitFor({ state: 'detached' })
  assert.equal(await text(), 'two')

  const download = page.waitForEvent('download')
  await rows.nth(1).getByRole('link', { name: 'Download report.txt' }).press('Enter')
  assert.equal((await download).suggestedFilename(), 'report.txt')
  assert.equal(await readFile(await (await download).path(), 'utf8'), 'one')

  await rows.nth(1).getByRole('button', { name: 'Restore report.txt' }).press('Enter')
  await browser.keep('versions-restore')
  await answer('Restore')
  await page.getByText('is the newest again').waitFor()
  await rows.nth(2).waitFor()
  assert.deepEqual(await states(), ['newest', 'older', 'older'])
  assert.equal(await text(), 'one')
  assert.equal((await owner.head('papers', 'drafts/report.txt')).metadata['author'], 'Ada')
  await browser.keep('versions-restored')

  await rows.nth(1).getByRole('button', { name: 'Delete report.txt' }).press('Enter')
  await page.getByRole('dialog').getByText('Nobody can bring it back.').waitFor()
  // Escape is no answer: nothing happens.
  await page.keyboard.press('Escape')
  await page.getByRole('dialog').waitFor({ state: 'detached' })
  assert.equal(await rows.count(), 3)
  await rows.nth(1).getByRole('button', { name: 'Delete report.txt' }).press('Enter')
  await answer('Delete')
  await page.getByText('It is deleted for good.').waitFor()
  await rows.nth(2).waitFor({ state: 'detached' })
  await assert.rejects(owner.head('papers', 'drafts/report.txt', { versionId: two.versionId ?? '' }))
  assert.equal(await text(), 'one')

  await page.getByRole('button', { name: 'Suspend versions' }).press('Enter')
  await answer('Suspend')
  await page.getByText('New versions are no longer kept.').waitFor()
  assert.equal(await owner.getVersioning('papers'), 'suspended')
  assert.deepEqual(browser.complaints, [])
})

test('in Chromium: a folder of many objects is shown page by page, and found by how names begin', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async () => {
  await using site = await openConsoleNode()
  const { node, owner, browser, page } = site
  await owner.createBucket('many')
  // The last row of the first page is a folder: the second one begins behind it, not in it.
  const keys = [
    ...Array.from({ length: 199 }, (_, number) => `a${String(number).padStart(3, '0')}`),
    ...['b/1', 'b/2', 'b/3'],
    ...Array.from({ length: 210 }, (_, number) => `c${String(number).padStart(3, '0')}`),
  ]
  const puts = keys.values()
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (const key of puts) await owner.put('many', key, '')
    }),
  )
  await site.enter()
  await page.goto(`${node.consoleUrl}/#/buckets/many`)
  const names = page.getByRole('table', { name: 'Objects in many/' }).locator('tbody td:first-child')
  const status = page.getByRole('navigation', { name: 'Pages of the listing' }).getByRole('status')
  const next = page.getByRole('button', { name: 'Next' })
  const shown: string[] = []
  await status.getByText('Rows 1 to 200').waitFor()
  shown.push(...(await names.allTextContents()))
  await browser.keep('many-objects')
  for (const told of ['Rows 201 to 400', 'Rows 401 to 410']) {
    await next.click()
    await status.getByText(told).waitFor()
    shown.push(...(await names.allTextContents()))
  }
  const expected = [...new Set(keys.map((key) => (key.startsWith('b/') ? 'b/' : key)))]
  assert.deepEqual(shown, expected, 'every name once, in order')
  assert.equal(await next.isDisabled(), true)
  await page.getByRole('button', { name: 'Previous' }).click()
  await status.getByText('Rows 201 to 400').waitFor()
  assert.equal((await names.allTextContents())[0], 'c000')

  // On a telephone: the page begins on the first screen, is no wider than it, and has the same listing.
  await page.setViewportSize({ width: 390, height: 844 })
  const heading = await page.getByRole('heading', { level: 1 }).boundingBox()
  assert.ok((heading?.y ?? Number.NaN) < 250, `the heading is ${heading?.y} pixels down`)
  assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 390)
  await browser.keep('many-objects-narrow')
  await page.setViewportSize({ width: 1360, height: 900 })

  await page.getByLabel('Names that begin with').fill('c20')
  await page.getByText('c209').waitFor()
  assert.equal(await names.count(), 10)
  assert.equal(await page.getByRole('navigation', { name: 'Pages of the listing' }).count(), 0)
  await page.getByLabel('Names that begin with').fill('nothing like it')
  await page.getByText('No name here begins with').waitFor()

  // A page with little on it does not blow up the head.
  await page.goto(`${node.consoleUrl}/#/buckets`)
  await page.getByRole('link', { name: 'many' }).waitFor()
  await page.setViewportSize({ width: 390, height: 844 })
  const title = await page.getByRole('heading', { level: 1, name: 'Buckets' }).boundingBox()
  assert.ok((title?.y ?? Number.NaN) < 250, `the heading is ${title?.y} pixels down`)
  // What went wrong is told in words, and nothing goes on loading.
  await page.goto(`${node.consoleUrl}/#/buckets/there-is-none`)
  await page.getByRole('alert').getByText('There is no such bucket.').waitFor()
  assert.equal(await page.getByText('Loading…').count(), 0)
  await browser.keep('no-bucket-narrow')
  assert.deepEqual(browser.complaints, [])
})
