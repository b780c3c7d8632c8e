import assert from 'node:assert/strict'
import test from 'node:test'
import { holdsFrames, withoutBrowser } from './console-browser.ts'
import { openConsoleNode } from './console-node.ts'

/** What a node answers, and what of it a person is told. */
const refusals: readonly (readonly [status: number, code: string, message: string, told: string])[] = [
  [403, 'AccessDenied', 'Access Denied', 'The access key has no right to do that here.'],
  [404, 'NoSuchBucket', 'x', 'There is no such bucket.'],
  [404, 'NoSuchVersion', 'x', 'That version is not there any more.'],
  [507, 'InsufficientStorage', 'x', 'There is no room left for it. (Request R-7.)'],
  [503, 'SlowDown', 'x', 'Try again in a moment. (Request R-7.)'],
  [500, 'InternalError', 'x', 'The node has failed at it; its log says why. (Request R-7.)'],
  [409, 'InvalidBucketState', 'the bucket is led elsewhere', 'The bucket is led elsewhere.'],
]

test('in Chromium: what fails is told in words', { skip: withoutBrowser, timeout: 240_000 }, async () => {
  await using site = await openConsoleNode()
  const { owner, browser, page } = site
  await owner.createBucket('papers')
  await owner.put('papers', 'report.txt', 'one')
  const dialog = page.getByRole('dialog')
  await site.enter()

  await browser.visit('Buckets')
  await page.getByRole('button', { name: 'Delete papers' }).click()
  await dialog.getByRole('button', { name: 'Delete' }).click()
  await dialog.getByRole('alert').getByText('Older versions and delete markers count, too.').waitFor()
  await page.keyboard.press('Escape')
  await page.getByRole('button', { name: 'New bucket' }).click()
  await dialog.getByLabel('Name').fill('192.168.1.1')
  await dialog.getByRole('button', { name: 'Create' }).click()
  await dialog.getByRole('alert').getByText('it is no IP address').waitFor()
  await browser.keep('words-bucket-name')
  await page.keyboard.press('Escape')

  await page.getByRole('link', { name: 'papers' }).click()
  let answer: (typeof refusals)[number] | undefined
  await page.route('**/s3/papers/report.txt', async (route) => {
    if (answer === undefined) return route.abort()
    const [status, code, message] = answer
    const body = `<Error><Code>${code}</Code><Message>${message}</Message><RequestId>R-7</RequestId></Error>`
    return route.fulfill({ status, contentType: 'application/xml', body })
  })
  await page.getByRole('button', { name: 'Delete report.txt' }).click()
  for (answer of refusals) {
    await dialog.getByRole('button', { name: 'Delete' }).click()
    await dialog.getByRole('alert').getByText(answer[3]).waitFor()
  }
  answer = undefined
  await dialog.getByRole('button', { name: 'Delete' }).click()
  await dialog.getByRole('alert').getByText('The node cannot be reached.').waitFor()
  await browser.keep('words-unreachable')
  await page.keyboard.press('Escape')
  await page.getByRole('cell', { name: 'report.txt', exact: true }).waitFor()
  assert.deepEqual(browser.complaints, [])
})

test('in Chromium: an address that changes while the first page is being drawn is followed', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async () => {
  await using site = await openConsoleNode()
  const { node, browser, page } = site
  await page.addInitScript(holdsFrames)
  await browser.logIn(node.accessKey, 'not the secret')
  await page.getByRole('alert').getByText('is not right').waitFor()
  await page.evaluate('window.held = []')
  await page.getByLabel('Secret key').fill(node.secretKey)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor()
  await page.evaluate(`new Promise((resolve) => {
    addEventListener('hashchange', () => resolve(), { once: true })
    location.hash = '#/keys'
  })`)
  await page.evaluate('window.letGo()')
  await page.getByRole('heading', { level: 1, name: 'Access keys' }).waitFor({ timeout: 20_000 })
  assert.deepEqual(browser.complaints, [])
})

test('in Chromium: at no width is a part of a table beside the screen, and it stays a table to screen readers', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async () => {
  await using site = await openConsoleNode()
  const { node, owner, admin, browser, page } = site
  await admin.keys.create({ name: 'nightly backup robot', account: 'finance' })
  const longest = `b${'ackups-of-the-whole-company-'.repeat(3)}`.slice(0, 62)
  await admin.buckets.create(`${longest}x`, 'finance')
  await owner.createBucket('photos')
  await owner.setVersioning('photos', 'enabled')
  const name = `picture-${'of-the-mountains-'.repeat(8)}.jpg`
  await owner.put('photos', name, 'one')
  await owner.put('photos', name, 'two')
  await site.enter()
  const places = [
    ...['overview', 'buckets', 'buckets/photos', 'buckets/photos//versions', 'links', 'classes'],
    ...['policies', 'federation', 'sharing', 'failover', 'keys', 'events'],
  ]
  for (const [width, height] of [
    [1280, 800],
    [390, 844],
  ] as const) {
    await page.setViewportSize({ width, height })
    await page.emulateMedia({ colorScheme: width === 390 ? 'dark' : 'light' })
    for (const place of places) {
      await page.goto(`${node.consoleUrl}/#/${place}`)
      // Not the page before it, which stays until this one is drawn.
      await page.locator(`a[aria-current][href="#/${place}"]`).first().waitFor()
      await page.locator('main table, main .empty, main .tiles').first().waitFor()
      await page.getByText('Loading…').waitFor({ state: 'detached' })
      const hidden = await page.evaluate(
        `[document.documentElement, ...document.querySelectorAll('.scroll')].map((each) => each.scrollWidth - each.clientWidth)`,
      )
      assert.deepEqual(
        (hidden as readonly number[]).filter((pixels) => pixels > 0),
        [],
        `${place} at ${width}`,
      )
    }
  }
  await page.goto(`${node.consoleUrl}/#/buckets/photos//versions`)
  await page.getByRole('cell', { name: 'newest' }).waitFor()
  await browser.keep('narrow-versions')
  const browserSide = await page.context().newCDPSession(page)
  const { nodes } = (await browserSide.send('Accessibility.getFullAXTree')) as {
    nodes: { role?: { value?: unknown } }[]
  }
  const roles = nodes.map(({ role }) => role?.value)
  const countOf = (role: string): number => roles.filter((each) => each === role).length
  assert.deepEqual(
    ['table', 'row', 'columnheader', 'cell'].map((role) => [role, countOf(role)]),
    [
      ['table', 1],
      ['row', 3],
      ['columnheader', 5],
      ['cell', 10],
    ],
  )
  assert.deepEqual(browser.complaints, [])
})
