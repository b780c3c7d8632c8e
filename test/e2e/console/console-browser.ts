import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { type Browser, chromium, type Page } from 'playwright-core'

/** Where Debian's package puts it; the tests download no browser. */
export const browserPath = ['/usr/bin/chromium-headless-shell', '/usr/bin/chromium'].find((path) =>
  existsSync(path),
)
export const withoutBrowser = browserPath === undefined && 'no Chromium (npm run setup -- --browser)'

/** Screenshots are kept for people to look at; the folder is not in the repository. */
const results = resolve(process.env['PANDO_SCREENSHOTS'] ?? 'test/results/console')

/** A machine under load is slow, not broken. */
const patienceMs = 90_000

/** For `addInitScript`: while `window.held` is an array, what the page wants done with its next frame waits there. */
export const holdsFrames = `{
  const { setTimeout: later, requestAnimationFrame: frame } = window
  window.requestAnimationFrame = (run) => (window.held === undefined ? frame(run) : window.held.push(run))
  window.setTimeout = (run, delayMs, ...more) =>
    window.held === undefined || delayMs > 200 ? later(run, delayMs, ...more) : window.held.push(run)
  window.letGo = () => {
    const { held } = window
    window.held = undefined
    for (const run of held) run()
  }
}`

export interface ConsoleBrowser extends AsyncDisposable {
  readonly page: Page
  /** Where the screenshots are. */
  readonly folder: string
  /** What the page has complained about: errors, and what its own policy has refused. */
  readonly complaints: string[]
  /** By the name that the navigation gives the page. */
  visit(name: string, heading?: string): Promise<void>
  logIn(accessKeyId: string, secretKey: string): Promise<void>
  /** Resolves when the focus is at an element of this name or text, which comes with the next frame; rejects when it does not come. */
  focusIs(expected: RegExp): Promise<void>
  /** A picture of the page as it is, and what axe-core finds wrong with it: nothing is allowed. */
  keep(name: string): Promise<void>
}

export async function openConsole(url: string): Promise<ConsoleBrowser> {
  const browser: Browser = await chromium.launch({
    ...(browserPath === undefined ? {} : { executablePath: browserPath }),
    args: ['--no-sandbox', '--disable-gpu', '--hide-scrollbars'],
    timeout: patienceMs,
  })
  const context = await browser.newContext({
    viewport: { width: 1360, height: 900 },
    ignoreHTTPSErrors: true,
    reducedMotion: 'reduce',
    colorScheme: 'light',
  })
  const page = await context.newPage()
  page.setDefaultTimeout(patienceMs)
  const complaints: string[] = []
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('console', (message) => {
    // The browser itself tells of every 401 and 429, which the page expects.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource'))
      complaints.push(message.text())
  })
  await mkdir(results, { recursive: true })
  const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
  return {
    page,
    folder: results,
    complaints,
    async visit(name, heading = name) {
      await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name, exact: true }).click()
      await page.getByRole('heading', { level: 1, name: heading, exact: true }).waitFor()
    },
    async logIn(accessKeyId, secretKey) {
      await page.goto(url)
      await page.getByLabel('Access key').fill(accessKeyId)
      await page.getByLabel('Secret key').fill(secretKey)
      await page.getByRole('button', { name: 'Log in' }).click()
    },
    async focusIs(expected) {
      const untilMs = performance.now() + patienceMs
      for (;;) {
        const focused: unknown = await page.evaluate(
          "document.activeElement === document.body ? '' : document.activeElement.ariaLabel ?? document.activeElement.textContent",
        )
        if (expected.test(String(focused))) return
        assert.ok(performance.now() < untilMs, `the focus is at '${focused}', not at ${expected}`)
        await setTimeout(20)
      }
    },
    async keep(name) {
      await page.screenshot({ path: join(results, `${name}.png`) })
      // By the debugger's own door: the page's policy lets no script in.
      const found: { id: string; nodes: { html: string; failureSummary?: string }[] }[] =
        await page.evaluate(`(async () => {
        ${axe};
        const { violations } = await axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] })
        return violations.map(({ id, nodes }) => ({ id, nodes: nodes.map(({ html, failureSummary }) => ({ html, failureSummary })) }))
      })()`)
      assert.deepEqual(
        found.map(
          ({ id, nodes }) => `${name}: ${id}: ${nodes[0]?.html.slice(0, 200)}: ${nodes[0]?.failureSummary}`,
        ),
        [],
      )
    },
    [Symbol.asyncDispose]: () => browser.close(),
  }
}
