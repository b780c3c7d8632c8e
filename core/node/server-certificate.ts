import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import type { Clock } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { Logger } from '../contract/logger.ts'
import type { ServerIdentity, ServerIdentitySource } from '../contract/server-identity.ts'
import type { TlsConfig } from './config/tls-schema.ts'
import type { NodeHealth } from './node-health.ts'

export interface ServerCertificateOptions {
  readonly files: TlsConfig
  readonly health: Pick<NodeHealth, 'report' | 'clear'>
  readonly clock: Clock
  readonly log: Logger
}

export interface ServerCertificate extends ServerIdentitySource {
  /** Reads the files now; true when they hold something new. INVALID_CONFIG: what was in force stays in force. */
  refresh(): Promise<boolean>
  stop(): Promise<void>
}

/** How often the files are looked at: whoever renews a certificate does so days before the old one ends. */
const checkMs = 5_000
/** An end that is nearer than this, and than a fifth of the whole time, needs a person. */
const warnMs = 7 * 86_400_000

/** Reads a certificate and its key, and again whenever the files change. INVALID_CONFIG when they are not a pair that can be used. */
export async function openServerCertificate(options: ServerCertificateOptions): Promise<ServerCertificate> {
  const { files, health, clock, log } = options
  const listeners = new Set<(identity: ServerIdentity) => void>()
  const stopped = new AbortController()
  let identity = await readIdentity(files)
  let trouble = ''

  async function refresh(): Promise<boolean> {
    const next = await readIdentity(files)
    if (next.certificate === identity.certificate && next.key === identity.key) return false
    identity = next
    for (const listener of [...listeners]) listener(identity)
    const { validTo, serialNumber } = new X509Certificate(identity.certificate)
    log.info({ certFile: files.certFile, serialNumber, validTo }, 'the certificate was read again')
    return true
  }

  /** A pair that is being written may not fit together for a moment: it is looked at again. */
  async function check(): Promise<void> {
    try {
      await refresh()
      trouble = ''
      health.clear('tls')
    } catch (reason) {
      const sentence = `the new certificate is not used: ${StorageError.from(reason).reason}`
      if (sentence !== trouble) log.warn({ certFile: files.certFile }, sentence)
      trouble = sentence
      health.report('tls', sentence)
    }
    tellEnd()
  }

  function tellEnd(): void {
    const { validFrom, validTo } = new X509Certificate(identity.certificate)
    const [fromMs, toMs] = [Date.parse(validFrom), Date.parse(validTo)]
    const leftMs = toMs - clock.now()
    if (leftMs > Math.min(warnMs, (toMs - fromMs) / 5)) health.clear('tls-end')
    else {
      const end = new Date(toMs).toISOString()
      health.report(
        'tls-end',
        leftMs > 0
          ? `the certificate in ${files.certFile} ends at ${end}: put a new one there`
          : `the certificate in ${files.certFile} has ended at ${end}: clients refuse it`,
      )
    }
  }

  async function watch(): Promise<void> {
    const { signal } = stopped
    while (!signal.aborted) {
      await clock.sleep(checkMs, signal).catch(() => undefined)
      if (!signal.aborted) await check()
    }
  }

  tellEnd()
  const watching = watch()
  return {
    current: () => identity,
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    async refresh() {
      const isNew = await refresh()
      health.clear('tls')
      tellEnd()
      return isNew
    },
    async stop() {
      stopped.abort()
      await watching
    },
  }
}

async function readIdentity({ certFile, keyFile }: TlsConfig): Promise<ServerIdentity> {
  const [certificate, key] = await Promise.all([readPem('certFile', certFile), readPem('keyFile', keyFile)])
  let leaf: X509Certificate
  try {
    leaf = new X509Certificate(certificate)
  } catch (cause) {
    throw new StorageError('INVALID_CONFIG', `tls.certFile: ${certFile} holds no certificate (PEM)`, {
      cause,
    })
  }
  let isPair: boolean
  try {
    isPair = leaf.checkPrivateKey(createPrivateKey(key))
  } catch {
    // No cause: what a parser says of a key belongs into no log.
    throw new StorageError(
      'INVALID_CONFIG',
      `tls.keyFile: ${keyFile} holds no private key (PEM, not encrypted)`,
    )
  }
  if (!isPair) {
    throw new StorageError('INVALID_CONFIG', `tls.keyFile: ${keyFile} is not the key of ${certFile}`)
  }
  try {
    createSecureContext({ cert: certificate, key })
  } catch (cause) {
    throw new StorageError('INVALID_CONFIG', `tls.certFile: ${certFile} cannot be used for TLS`, { cause })
  }
  return { certificate, key }
}

async function readPem(name: keyof TlsConfig, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError('INVALID_CONFIG', `tls.${name}: cannot read the file: ${reason}`, { cause: error })
  }
}
