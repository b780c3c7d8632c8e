import { fileURLToPath } from 'node:url'
import { openConsole } from '../console/console.ts'
import { Pages } from '../console/pages.ts'
import type { Environment } from '../contract/clock.ts'
import type { Logger } from '../contract/logger.ts'
import { type AdminParts, adminMethodTable } from '../control/admin-methods.ts'
import type { TellAudit } from '../control/audited-call.ts'
import type { CredentialSource } from '../gateway/s3/operation.ts'
import type { S3Server } from '../gateway/s3/server.ts'
import type { Management } from './management.ts'
import type { StopStack } from './stop-stack.ts'

export interface NodeConsoleParts {
  readonly admin: AdminParts
  readonly management: Management
  readonly credentials: CredentialSource
  /** Absent: a witness, which has no buckets. */
  readonly s3?: S3Server
  readonly facts: { readonly node: string; readonly region: string; readonly version: string }
  readonly audit: TellAudit | undefined
  readonly environment: Environment
  readonly log: Logger
  readonly parts: StopStack
  readonly deadlineMs: number
}

/** Puts the console on the port of metrics and health. Without a built front end its HTTP API serves all the same. */
export async function attachNodeConsole(node: NodeConsoleParts): Promise<void> {
  const { management, credentials, s3, log } = node
  // Beside the compiled sources: from dist/core/node it is two up.
  const pages = await Pages.read(fileURLToPath(new URL('../../console/', import.meta.url)))
  if (pages.isEmpty)
    log.warn({}, 'the pages of the console are not built (npm run build): only its HTTP API is served')
  const opened = openConsole({
    methods: adminMethodTable(node.admin),
    findKey(accessKeyId) {
      const found = credentials.lookup(accessKeyId)
      return found === undefined || found === 'disabled' ? undefined : { ...found, admin: found.root }
    },
    pages,
    ...(s3 === undefined ? {} : { serveObjects: s3.serve }),
    problems: async () => (await management.health.check()).problems,
    facts: () => node.facts,
    audit: node.audit,
    environment: node.environment,
    log,
  })
  node.parts.push('pages of the console', node.deadlineMs, async () => opened.close())
  management.attachConsole((message, response) => opened.handle(message, response))
}
