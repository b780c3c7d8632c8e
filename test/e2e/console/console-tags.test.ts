import assert from 'node:assert/strict'
import test from 'node:test'
import { openS3Client } from '../../kit/s3-client.ts'
import { withoutBrowser } from './console-browser.ts'
import { openConsoleNode } from './console-node.ts'

test('in Chromium, by keyboard: tags of an object are seen and changed, as far as the key may', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async (t) => {
  await using site = await openConsoleNode()
  const { node, owner, admin, browser, page } = site
  const { key, secretAccessKey } = await admin.keys.create({ account: 'alice' })
  await owner.createBucket('papers')
  await owner.put('papers', 'drafts/report.txt', 'one', { tags: { project: 'atlas', state: 'draft' } })
  const dialog = page.getByRole('dialog', { name: 'Tags of this object' })
  const field = (name: string) => dialog.getByRole('textbox', { name, exact: true })
  const press = (name: string): Promise<void> =>
    dialog.getByRole('button', { name, exact: true }).press('Enter')
  const tags = async (): Promise<Record<string, string>> => ({
    ...(await owner.getTags('papers', 'drafts/report.txt')),
  })
  await site.enter()
  await page.goto(`${node.consoleUrl}/#/buckets/papers/drafts%2F`)

  await page.getByRole('button', { name: 'Tags of report.txt' }).press('Enter')
  await field('Name of tag 2').waitFor()
  assert.equal(await field('Name of tag 1').inputValue(), 'project')
  assert.equal(await field('Value of tag 2').inputValue(), 'draft')
  await browser.keep('tags')
  await field('Value of tag 2').fill('final')
  await press('Add a tag')
  await browser.focusIs(/^Name of tag 3$/)
  await page.keyboard.type('project')
  await press('Save')
  await dialog.getByRole('alert').getByText('Two tags are called “project”.').waitFor()
  await field('Name of tag 3').fill('owner')
  await field('Value of tag 3').fill('Zoë & co <3>')
  await press('Save')
  assert.equal(
    await field('Value of tag 3').evaluate(
      (input: { validity: { patternMismatch: boolean } }) => input.validity.patternMismatch,
    ),
    true,
  )
  await field('Value of tag 3').fill('Zoë: x@y.z')
  await press('Save')
  await page.getByRole('status').getByText('It has 3 tags now.').waitFor()
  assert.deepEqual(await tags(), { owner: 'Zoë: x@y.z', project: 'atlas', state: 'final' })
  // The focus is back where it was.
  await browser.focusIs(/^Tags of report[.]txt$/)

  // What somebody else has set meanwhile is not lost without a word.
  await page.getByRole('button', { name: 'Tags of report.txt' }).press('Enter')
  await field('Name of tag 3').waitFor()
  await owner.setTags('papers', 'drafts/report.txt', { project: 'other' })
  await press('Remove tag 1, owner')
  await browser.focusIs(/^Add a tag$/)
  await press('Save')
  await dialog.getByText('Somebody has changed the tags meanwhile.').waitFor()
  assert.deepEqual(await tags(), { project: 'other' })
  await page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'detached' })

  // Ten and no more; on a telephone and in the dark.
  await owner.setTags(
    'papers',
    'drafts/report.txt',
    Object.fromEntries(Array.from({ length: 9 }, (_, number) => [`tag ${number}`, 'x'.repeat(200)])),
  )
  await page.setViewportSize({ width: 390, height: 844 })
  await page.emulateMedia({ colorScheme: 'dark' })
  await page.getByRole('button', { name: 'Tags of report.txt' }).press('Enter')
  await field('Name of tag 9').waitFor()
  await press('Add a tag')
  await browser.focusIs(/^Name of tag 10$/)
  await browser.keep('tags-narrow-dark')
  const box = await dialog.boundingBox()
  assert.ok(box !== null && box.x >= 0 && box.x + box.width <= 390, 'it is no wider than the screen')
  await press('Add a tag')
  assert.equal(await dialog.getByRole('textbox').count(), 20, 'an eleventh is not begun')
  for (let left = 10; left > 0; left--) {
    await dialog.getByRole('button', { name: /^Remove tag 1(,|$)/ }).press('Enter')
    await field(`Name of tag ${left}`).waitFor({ state: 'detached' })
  }
  await press('Save')
  await page.getByRole('status').getByText('It has no tags now.').waitFor()
  assert.deepEqual(await tags(), {})
  await page.setViewportSize({ width: 1360, height: 900 })
  await page.emulateMedia({ colorScheme: 'light' })

  // A version has tags of its own.
  await owner.setVersioning('papers', 'enabled')
  const { versionId = '' } = await owner.put('papers', 'drafts/report.txt', 'two', { tags: { age: 'old' } })
  await owner.put('papers', 'drafts/report.txt', 'three', { tags: { age: 'new' } })
  await page.goto(`${node.consoleUrl}/#/buckets/papers/drafts%2F/versions`)
  const row = page.getByRole('row').filter({ hasText: versionId })
  await row.getByRole('button', { name: /^Tags of report.txt/ }).press('Enter')
  await field('Value of tag 1').fill('older')
  await press('Save')
  await page.getByText('It has 1 tag now.').waitFor()
  assert.deepEqual(
    { ...(await owner.getTags('papers', 'drafts/report.txt', { versionId })) },
    { age: 'older' },
  )
  assert.deepEqual(await tags(), { age: 'new' })

  // A key that may read the tags and not change them, and one that may not even read them.
  const s3 = openS3Client(node)
  t.after(() => s3.close())
  const allow = async (...actions: string[]): Promise<void> => {
    const statement = {
      Effect: 'Allow',
      Principal: { AWS: 'alice' },
      Action: actions.map((action) => `s3:${action}`),
      Resource: ['arn:aws:s3:::papers', 'arn:aws:s3:::papers/*'],
    }
    const body = JSON.stringify({ Version: '2012-10-17', Statement: [statement] })
    const { status } = await s3.send({ method: 'PUT', bucket: 'papers', query: { policy: '' }, body })
    assert.equal(status, 204)
  }
  await allow('ListBucket', 'GetObjectTagging')
  await page.getByRole('button', { name: 'Log out' }).click()
  // A page that is left before the node has been told keeps its session.
  await page.getByRole('button', { name: 'Log in' }).waitFor()
  await browser.logIn(key.accessKeyId, secretAccessKey)
  await page.getByRole('button', { name: 'Log out' }).waitFor()
  await page.goto(`${node.consoleUrl}/#/buckets/papers/drafts%2F`)
  await page.getByRole('button', { name: 'Tags of report.txt' }).press('Enter')
  await field('Value of tag 1').fill('mine')
  await press('Save')
  await dialog.getByRole('alert').getByText('no right').waitFor()
  assert.deepEqual(await tags(), { age: 'new' })
  await browser.keep('tags-refused')
  await page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'detached' })
  await allow('ListBucket')
  await page.getByRole('button', { name: 'Tags of report.txt' }).press('Enter')
  await dialog.getByRole('alert').getByText('no right').waitFor()
  assert.equal(await dialog.getByRole('textbox').count(), 0)
  assert.equal(await dialog.getByRole('button', { name: 'Save' }).isDisabled(), true)
  assert.deepEqual(browser.complaints, [])
})
