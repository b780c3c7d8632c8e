import assert from 'node:assert/strict'
import test from 'node:test'
import { PandoClient } from '../../../sdk/index.ts'
import { withoutBrowser } from './console-browser.ts'
import { openConsoleNode } from './console-node.ts'

test('in Chromium: a key that does not administer has its own buckets, until it is revoked', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async () => {
  await using site = await openConsoleNode()
  const { node, admin, browser, page } = site
  const { key, secretAccessKey } = await admin.keys.create({ name: 'photos of alice', account: 'alice' })
  await admin.buckets.create('of-root')
  const asked: string[] = []
  page.on('request', (request) => asked.push(new URL(request.url()).pathname))
  await browser.logIn(key.accessKeyId, secretAccessKey)
  await page.getByText('This account has no bucket yet').waitFor()
  const links = page.getByRole('navigation', { name: 'Pages' }).getByRole('link')
  assert.deepEqual(await links.allTextContents(), ['Buckets'])
  await browser.keep('tenant-empty')

  await page.getByRole('button', { name: 'New bucket' }).click()
  // Not the name of another account's bucket, which the page behind asks for.
  await page.getByRole('dialog').getByLabel('Name').fill('of-alice')
  await page.getByRole('button', { name: 'Create' }).click()
  await page.getByRole('link', { name: 'of-alice' }).click()
  await page
    .getByLabel('Files to upload')
    .setInputFiles({ name: 'note.txt', mimeType: 'text/plain', buffer: Buffer.from('hello') })
  await page.getByRole('link', { name: 'Download note.txt' }).waitFor()
  const alice = new PandoClient({
    endpoints: [node.endpoint],
    credentials: { accessKeyId: key.accessKeyId, secretAccessKey },
  })
  assert.equal(await (await alice.get('of-alice', 'note.txt')).text(), 'hello')
  await browser.keep('tenant-objects')

  // A bucket of somebody else: said in words, and nothing of it is shown.
  await page.goto(`${node.consoleUrl}/#/buckets/of-root`)
  await page.getByRole('alert').getByText('no right').waitFor()
  await browser.keep('tenant-refused')
  // An address of a page that is not offered leads to the buckets.
  await page.goto(`${node.consoleUrl}/#/keys`)
  await page.getByRole('heading', { level: 1, name: 'Buckets' }).waitFor()
  await page.getByRole('link', { name: 'of-alice' }).waitFor()
  assert.equal(await page.getByText('of-root').count(), 0)
  assert.deepEqual(
    asked.filter((path) => path.startsWith('/api/v1/') || path === '/api/events'),
    [],
    'the pages do not even ask for what is refused',
  )

  await admin.keys.setEnabled(key.accessKeyId, false)
  // By its address: the page asks again by itself and may know already, and then there is no link any more.
  await page.goto(`${node.consoleUrl}/#/buckets/of-alice`)
  await page.getByRole('alert').getByText('The session has ended.').waitFor()
  await browser.keep('tenant-session-ended')
  await page.reload()
  await page.getByRole('button', { name: 'Log in' }).waitFor()
  await browser.logIn(key.accessKeyId, secretAccessKey)
  await page.getByRole('alert').getByText('is not right').waitFor()
  assert.deepEqual(browser.complaints, [])
})
