import type { Page } from 'playwright-core'
import { PandoAdmin } from '../../../sdk/admin/index.ts'
import { PandoClient } from '../../../sdk/index.ts'
import { type NodeProcess, startNode } from '../../kit/node-process.ts'
import { type ConsoleBrowser, openConsole } from './console-browser.ts'

/** A node, whoever owns it, and a browser that has its console before it. */
export interface ConsoleNode extends AsyncDisposable {
  readonly node: NodeProcess
  readonly owner: PandoClient
  readonly admin: PandoAdmin
  readonly browser: ConsoleBrowser
  readonly page: Page
  /** Logs in with the root key; resolves at the overview. */
  enter(): Promise<void>
}

export async function openConsoleNode(): Promise<ConsoleNode> {
  const node = await startNode()
  const credentials = { accessKeyId: node.accessKey, secretAccessKey: node.secretKey }
  const browser = await openConsole(node.consoleUrl).catch(async (reason: unknown) => {
    await node[Symbol.asyncDispose]()
    throw reason
  })
  const { page } = browser
  return {
    ...{ node, browser, page },
    owner: new PandoClient({ endpoints: [node.endpoint], credentials }),
    admin: new PandoAdmin({ endpoint: node.consoleUrl, credentials }),
    async enter() {
      await browser.logIn(node.accessKey, node.secretKey)
      await page.getByText('Your data is safe').waitFor()
    },
    async [Symbol.asyncDispose]() {
      await browser[Symbol.asyncDispose]()
      await node[Symbol.asyncDispose]()
    },
  }
}
