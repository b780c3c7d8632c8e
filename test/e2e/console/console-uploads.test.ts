import assert from 'node:assert/strict'
import { createHash, randomFillSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { PandoClient } from '../../../sdk/index.ts'
import { startNode } from '../../kit/node-process.ts'
import { openS3Client } from '../../kit/s3-client.ts'
import { openConsole, withoutBrowser } from './console-browser.ts'

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

test('in Chromium: an upload that failed goes on from where it was, in any folder, and one that is stopped leaves nothing', {
  skip: withoutBrowser,
  timeout: 240_000,
}, async (t) => {
  const scratch = await mkdtemp(join(tmpdir(), 'pando-console-'))
  t.after(() => rm(scratch, { recursive: true, force: true }))
  await using node = await startNode()
  const credentials = { accessKeyId: node.accessKey, secretAccessKey: node.secretKey }
  const owner = new PandoClient({ endpoints: [node.endpoint], credentials })
  await owner.createBucket('films')
  await owner.put('films', 'old/one', 'x')
  const body = randomFillSync(Buffer.alloc(40_000_000))
  const path = join(scratch, 'film.mov')
  await writeFile(path, body)
  await using browser = await openConsole(node.consoleUrl)
  const { page } = browser
  // The way to the node breaks at the fourth part until it is said that it is whole again; sent parts are counted.
  await page.addInitScript(`{
    const send = window.fetch
    window.way = 'broken'
    window.sent = []
    window.fetch = async (url, init) => {
      const part = /partNumber=([0-9]+)/.exec(String(url))?.[1]
      if (part === '4' && window.way === 'broken') throw new TypeError('the way is broken')
      if (part === '4' && window.way === 'refused') return new Response('<Error><Code>AccessDenied</Code></Error>', { status: 403 })
      if (part === '4' && window.way === 'slow') await new Promise((resolve, reject) => init.signal.addEventListener('abort', reject))
      if (part !== undefined) window.sent.push(part)
      return send(url, init)
    }
  }`)
  await browser.logIn(node.accessKey, node.secretKey)
  await page.getByText('Your data is safe').waitFor()
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
