import assert from 'node:assert/strict'
import { createHash, randomFillSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { PandoClient } from '../../../sdk/index.ts'
import { openS3Client } from '../../kit/s3-client.ts'
import { holdsFrames, withoutBrowser } from './console-browser.ts'
import { openConsoleNode } from './console-node.ts'

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

test('in Chromium: an upload that failed goes on from where it was, in any folder, and one that is stopped leaves nothing', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async (t) => {
  const scratch = await mkdtemp(join(tmpdir(), 'pando-console-'))
  t.after(() => rm(scratch, { recursive: true, force: true }))
  await using site = await openConsoleNode()
  const { node, owner, browser, page } = site
  await owner.createBucket('films')
  await owner.put('films', 'old/one', 'x')
  const body = randomFillSync(Buffer.alloc(40_000_000))
  const path = join(scratch, 'film.mov')
  await writeFile(path, body)
  // The way to the node breaks at the fourth part until it is said that it is whole again. Parts are counted when they
  // have been answered: one that was on its way when the upload failed may be sent again.
  await page.addInitScript(`{
    const send = window.fetch
    window.way = 'broken'
    window.sent = []
    window.fetch = async (url, init) => {
      const part = /partNumber=([0-9]+)/.exec(String(url))?.[1]
      if (part === '4' && window.way === 'broken') throw new TypeError('the way is broken')
      if (part === '4' && window.way === 'refused') return new Response('<Error><Code>AccessDenied</Code></Error>', { status: 403 })
      if (part === '4' && window.way === 'slow') await new Promise((resolve, reject) => init.signal.addEventListener('abort', reject))
      const answer = await send(url, init)
      if (part !== undefined && answer.ok) window.sent.push(part)
      return answer
    }
  }`)
  await site.enter()
  await page.goto(`${node.consoleUrl}/#/buckets/films`)
  await page.getByLabel('Files to upload').setInputFiles(path)
  await page.getByRole('progressbar', { name: 'Upload of film.mov' }).waitFor()
  // Looking elsewhere stops nothing.
  await page.getByRole('link', { name: 'old/' }).click()
  await page.getByText('one', { exact: true }).waitFor()
  await page.getByRole('button', { name: 'Go on with film.mov' }).waitFor()
  await page.getByText('are kept').waitFor()
  await browser.keep('upload-failed')
  const before = (await page.evaluate('window.sent')) as readonly string[]
  await page.evaluate('window.way = "whole"')
  await page.getByRole('button', { name: 'Go on with film.mov' }).click()
  await page.getByText('durable').waitFor()
  const after = ((await page.evaluate('window.sent')) as readonly string[]).slice(before.length)
  for (const part of before) assert.ok(!after.includes(part), `part ${part} was sent before`)
  assert.ok(after.includes('4'))
  assert.equal(sha256(await (await owner.get('films', 'film.mov')).bytes()), sha256(body))

  // One that is refused and given up, one that is stopped on its way, and nothing of them stays at the node.
  await page.evaluate('window.way = "refused"')
  await writeFile(join(scratch, 'other.mov'), body)
  await page.getByLabel('Files to upload').setInputFiles(join(scratch, 'other.mov'))
  await page.getByText('has no right').waitFor()
  await page.getByRole('button', { name: 'Give up old/other.mov' }).click()
  await page.getByText('nothing of it is kept').waitFor()
  await page.evaluate('window.way = "slow"')
  await page.getByLabel('Files to upload').setInputFiles(path)
  await page.getByRole('button', { name: 'Stop old/film.mov' }).click()
  await page.getByText('nothing of it is kept').nth(1).waitFor()
  const s3 = openS3Client(node)
  t.after(() => s3.close())
  for (let tries = 0; ; tries++) {
    const { body: listed } = await s3.send({ method: 'GET', bucket: 'films', query: { uploads: '' } })
    if (!String(listed).includes('<Upload>')) break
    assert.ok(tries < 100, 'an upload is still there')
    await sleep(100)
  }
  await page.getByRole('button', { name: 'Clear the list' }).click()
  await page.getByRole('progressbar').first().waitFor({ state: 'detached' })
  assert.deepEqual(browser.complaints, [])
})

test('in Chromium: an upload that was cut off by a reload or a closed page goes on when its file is chosen again', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async (t) => {
  const scratch = await mkdtemp(join(tmpdir(), 'pando-console-'))
  t.after(() => rm(scratch, { recursive: true, force: true }))
  await using site = await openConsoleNode()
  const { node, owner, browser, page } = site
  await owner.createBucket('films')
  const body = randomFillSync(Buffer.alloc(28_000_000))
  const path = join(scratch, 'film.mov')
  await writeFile(path, body)
  // Of each page the fourth part waits until it is said to go on; sent parts are counted.
  const held = `{
    const send = window.fetch
    const held = new Promise((resolve) => { window.goOn = resolve })
    window.sent = []
    window.fetch = async (url, init) => {
      const part = /partNumber=([0-9]+)/.exec(String(url))?.[1]
      if (part === '4') await held
      const answer = await send(url, init)
      if (part !== undefined) window.sent.push(part)
      return answer
    }
  }`
  await page.context().addInitScript(held)
  page.on('dialog', (dialog) => void dialog.accept())
  const begun = async (): Promise<readonly string[]> => {
    const ids: string[] = []
    for await (const each of owner.listUploads('films')) if (each.type === 'upload') ids.push(each.uploadId)
    return ids
  }
  const sent = async (of = page): Promise<readonly string[]> =>
    (await of.evaluate('window.sent')) as readonly string[]
  // By the debugger's own door: the page's policy lets no text be evaluated.
  const until = async (of: typeof page, condition: string): Promise<void> => {
    for (let tries = 0; (await of.evaluate(condition)) !== true; tries++) {
      assert.ok(tries < 900, `never: ${condition}`)
      await sleep(100)
    }
  }
  // What the browser keeps of it comes by a way of its own: a page that is left before has nothing to go on with.
  const hasSentThree = (of = page): Promise<void> =>
    until(of, 'window.sent.length >= 3 && Object.keys(localStorage).length > 0')
  await site.enter()
  await page.goto(`${node.consoleUrl}/#/buckets/films`)
  await page.getByLabel('Files to upload').setInputFiles(path)
  await hasSentThree()
  const before = await sent()
  const [uploadId] = await begun()
  assert.ok(uploadId !== undefined)
  const kept = String(await page.evaluate('JSON.stringify({ ...localStorage })'))
  assert.ok(kept.includes(uploadId) && !kept.includes(node.secretKey))

  // Another page of the same browser leaves alone what is still being sent.
  const other = await page.context().newPage()
  await other.goto(`${node.consoleUrl}/#/buckets/films`)
  await other.getByText('Nothing here.').waitFor()
  assert.equal(await other.getByRole('button', { name: /film.mov/ }).count(), 0)
  await other.close()

  await page.reload()
  await page.getByText('1 cut off when the page was left').waitFor()
  // Three parts of 8 MiB: what it says is what the node has.
  await page.getByText('cut off; 24.0 MiB of 26.7 MiB are kept').waitFor()
  await browser.keep('upload-cut')
  const picker = page.getByLabel('File of film.mov')
  await picker.setInputFiles({ name: 'film.mov', mimeType: 'video/mp4', buffer: Buffer.from('other') })
  await page.getByRole('alert').getByText('That file has 5 bytes.').waitFor()
  await picker.setInputFiles({ name: 'note.txt', mimeType: 'text/plain', buffer: Buffer.from('other') })
  await page.getByRole('alert').getByText('This upload goes on with “film.mov”.').waitFor()
  await browser.keep('upload-cut-other-file')
  assert.deepEqual(await begun(), [uploadId], 'nothing else was begun')
  await page.evaluate('window.goOn()')
  await picker.setInputFiles(path)
  await page.getByText('durable').waitFor()
  for (const part of before) assert.ok(!(await sent()).includes(part), `part ${part} was sent before`)
  assert.ok((await sent()).includes('4'))
  assert.equal(sha256(await (await owner.get('films', 'film.mov')).bytes()), sha256(body))
  assert.deepEqual(await begun(), [])
  assert.equal(await page.evaluate('Object.keys(localStorage).length'), 0, 'nothing of it is kept')

  // A page that is closed: one that is open takes over, and the file chosen as at first goes on as well.
  const closed = await page.context().newPage()
  await closed.goto(`${node.consoleUrl}/#/buckets/films/old%2F`)
  await closed.getByLabel('Files to upload').setInputFiles(path)
  await hasSentThree(closed)
  await page.goto(`${node.consoleUrl}/#/buckets/films/old%2F`)
  await page.getByText('Nothing here.').waitFor()
  assert.equal(await page.getByText('cut off').count(), 0)
  await closed.close()
  await page.getByText('1 cut off when the page was left').waitFor()
  await page.getByLabel('Files to upload').setInputFiles(path)
  await page.getByText('durable').nth(1).waitFor()
  assert.equal((await owner.head('films', 'old/film.mov')).size, body.length)
  assert.deepEqual(await begun(), [])

  // Given up: the node keeps nothing of it, and neither does the browser.
  await page.reload()
  await page.getByLabel('Files to upload').setInputFiles(path)
  await hasSentThree()
  await page.reload()
  await page.getByRole('button', { name: 'Give up old/film.mov' }).click()
  await page.getByText('nothing of it is kept').waitFor()
  await until(page, 'Object.keys(localStorage).length === 0')
  for (let tries = 0; (await begun()).length > 0; tries++) {
    assert.ok(tries < 100, 'the upload is still there')
    await sleep(100)
  }

  // What others have begun is listed, and taken back.
  const s3 = openS3Client(node)
  t.after(() => s3.close())
  for (const key of ['old/tape.avi', 'reel.avi'])
    await s3.send({ method: 'POST', bucket: 'films', key, query: { uploads: '' } })
  await page.goto(`${node.consoleUrl}/#/buckets/films`)
  await page.getByRole('link', { name: 'Unfinished uploads' }).click()
  await page.getByRole('link', { name: 'old/' }).waitFor()
  await browser.keep('uploads-unfinished')
  await page.getByRole('button', { name: 'Take back reel.avi' }).click()
  await browser.keep('uploads-take-back')
  await page.getByRole('dialog').getByRole('button', { name: 'Take back' }).click()
  await page.getByRole('status').getByText('The upload is taken back.').waitFor()
  assert.equal((await begun()).length, 1)
  await page.setViewportSize({ width: 390, height: 844 })
  await page.getByRole('link', { name: 'old/' }).click()
  await page.getByRole('button', { name: 'Take back tape.avi' }).waitFor()
  assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 390)
  await browser.keep('uploads-unfinished-narrow')
  await page.setViewportSize({ width: 1360, height: 900 })

  // A log-out takes back what is cut off and what is under way.
  await page.goto(`${node.consoleUrl}/#/buckets/films`)
  await page.getByLabel('Files to upload').setInputFiles(path)
  await hasSentThree()
  await page.reload()
  await page.getByText('1 cut off when the page was left').waitFor()
  await page.getByRole('button', { name: 'Log out' }).click()
  await page.getByRole('button', { name: 'Log in' }).waitFor()
  assert.equal((await begun()).length, 1, 'that of somebody else stays')
  assert.deepEqual(browser.complaints, [])
})

test('in Chromium: an upload stays that of its key when another one logs in with the same browser', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async (t) => {
  const scratch = await mkdtemp(join(tmpdir(), 'pando-console-'))
  t.after(() => rm(scratch, { recursive: true, force: true }))
  await using site = await openConsoleNode()
  const { node, admin, browser, page } = site
  const made = await admin.keys.create({ name: 'alice', account: 'alice' })
  const alice = { accessKeyId: made.key.accessKeyId, secretAccessKey: made.secretAccessKey }
  const client = new PandoClient({ endpoints: [node.endpoint], credentials: alice })
  await client.createBucket('films')
  const body = randomFillSync(Buffer.alloc(28_000_000))
  const path = join(scratch, 'film.mov')
  await writeFile(path, body)
  // The fourth part waits until it is given up; what is answered to requests that take back is noted.
  await page.addInitScript(`{
    const send = window.fetch
    window.sent = []
    window.takenBack = []
    window.fetch = async (url, init) => {
      const part = /partNumber=([0-9]+)/.exec(String(url))?.[1]
      if (part === '4' && window.goesOn !== true)
        await new Promise((resolve, reject) => init.signal.addEventListener('abort', () => reject(init.signal.reason)))
      const answer = await send(url, init)
      if (part !== undefined) window.sent.push(part)
      if (init?.method === 'DELETE') window.takenBack.push(answer.status)
      return answer
    }
  }`)
  const until = async (condition: string): Promise<void> => {
    for (let tries = 0; (await page.evaluate(condition)) !== true; tries++) {
      assert.ok(tries < 900, `never: ${condition}`)
      await sleep(100)
    }
  }
  const begun = async (): Promise<readonly string[]> => {
    const ids: string[] = []
    for await (const each of client.listUploads('films')) if (each.type === 'upload') ids.push(each.uploadId)
    return ids
  }
  const enter = async (of: typeof page, accessKeyId: string, secretKey: string): Promise<void> => {
    await of.getByLabel('Access key').fill(accessKeyId)
    await of.getByLabel('Secret key').fill(secretKey)
    await of.getByRole('button', { name: 'Log in' }).click()
    await of.getByRole('button', { name: 'Log out' }).waitFor()
  }

  const other = await page.context().newPage()
  await other.goto(node.consoleUrl)
  await other.getByRole('button', { name: 'Log in' }).waitFor()
  await page.goto(`${node.consoleUrl}/#/buckets/films`)
  await enter(page, alice.accessKeyId, alice.secretAccessKey)
  await page.getByLabel('Files to upload').setInputFiles(path)
  await until('window.sent.length >= 3 && Object.keys(localStorage).length > 0')
  const [uploadId] = await begun()
  assert.ok(uploadId !== undefined)

  // The browser has one session: from here on it is the root key's, which may do anything, and none of it in alice's name.
  await enter(other, node.accessKey, node.secretKey)
  await page.getByRole('alert').getByText('The session has ended.').waitFor()
  assert.deepEqual(await begun(), [uploadId])
  // Whoever enters the page itself has alice's upload stopped there, which takes nothing of it back.
  await enter(page, node.accessKey, node.secretKey)
  await until('window.takenBack.length >= 1')
  assert.deepEqual(await page.evaluate('[...new Set(window.takenBack)]'), [401])
  assert.deepEqual(await begun(), [uploadId])
  assert.equal(await page.getByText('film.mov').count(), 0)

  // Her own key is offered it again, as far as it was.
  await page.context().clearCookies()
  await page.getByRole('alert').getByText('The session has ended.').waitFor()
  await enter(page, alice.accessKeyId, alice.secretAccessKey)
  await page.goto(`${node.consoleUrl}/#/buckets/films`)
  await page.getByText('cut off; 24.0 MiB of 26.7 MiB are kept').waitFor()
  await page.evaluate('window.goesOn = true')
  await page.getByLabel('File of film.mov').setInputFiles(path)
  await page.getByText('durable').waitFor()
  assert.equal(sha256(await (await client.get('films', 'film.mov')).bytes()), sha256(body))
  assert.deepEqual(await begun(), [])

  // What cannot be taken back says so, and is there still.
  await page.evaluate('window.goesOn = false')
  await page
    .getByLabel('Files to upload')
    .setInputFiles({ name: 'two.mov', mimeType: 'video/mp4', buffer: body })
  await until("window.sent.filter((part) => part === '3').length >= 2")
  await page.route('**/s3/films/two.mov*', (route) =>
    route.request().method() === 'DELETE'
      ? route.fulfill({ status: 403, body: '<Error><Code>AccessDenied</Code></Error>' })
      : route.continue(),
  )
  await page.getByRole('button', { name: 'Stop two.mov' }).click()
  await page.getByRole('alert').getByText('The access key has no right to do that here.').waitFor()
  await page.unroute('**/s3/films/two.mov*')
  await page.getByRole('button', { name: 'Give up two.mov' }).click()
  await page.getByText('nothing of it is kept').waitFor()
  for (let tries = 0; (await begun()).length > 0; tries++) {
    assert.ok(tries < 100, 'the upload is still there')
    await sleep(100)
  }
  assert.deepEqual(browser.complaints, [])
})

test('in Chromium: an upload that ends while another folder is being drawn is shown as it ended', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async () => {
  await using site = await openConsoleNode()
  const { node, owner, browser, page } = site
  await owner.createBucket('films')
  await owner.put('films', 'old/one', 'x')
  // The object waits until it is said to go on; while frames are held, what is drawn has not begun to listen.
  await page.addInitScript(holdsFrames)
  await page.addInitScript(`{
    const send = window.fetch
    const object = new Promise((resolve) => { window.goOn = resolve })
    window.fetch = async (url, init) => {
      if (String(url).includes('note.txt') && init.method === 'PUT') await object
      return send(url, init)
    }
  }`)
  await site.enter()
  await page.goto(`${node.consoleUrl}/#/buckets/films`)
  await page
    .getByLabel('Files to upload')
    .setInputFiles({ name: 'note.txt', mimeType: 'text/plain', buffer: Buffer.from('hello') })
  await page.getByRole('progressbar', { name: 'Upload of note.txt' }).waitFor()
  await page.evaluate('window.held = []; location.hash = "#/buckets/films/old%2F"')
  await page.getByRole('navigation', { name: 'Folder' }).getByRole('link', { name: 'old' }).waitFor()
  await page.evaluate('window.goOn()')
  // It asks before it is left as long as something is on its way.
  const isOver = 'window.dispatchEvent(new Event("beforeunload", { cancelable: true }))'
  for (let tries = 0; (await page.evaluate(isOver)) !== true; tries++) {
    assert.ok(tries < 900, 'the upload does not end')
    await sleep(100)
  }
  assert.equal(await page.getByText('durable').count(), 0, 'it has been told already')
  await page.evaluate('window.letGo()')
  await page.getByText('durable').waitFor({ timeout: 20_000 })
  assert.deepEqual(browser.complaints, [])
})
