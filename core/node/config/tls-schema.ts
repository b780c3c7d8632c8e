import { z } from 'zod'

/** The section `tls`: what the S3 endpoint and the admin service show to their clients. Nodes among themselves have keys of their own. */
export const tlsSection = z
  .strictObject({
    certFile: z
      .string()
      .max(4096)
      .default('')
      .describe(
        'File with the certificate (PEM) and those between it and its authority. Empty: plain HTTP. Relative to the config ' +
          'file. Read again when it changes.',
      ),
    keyFile: z
      .string()
      .max(4096)
      .default('')
      .describe(
        'File with the private key (PEM, not encrypted) of the certificate. Read again when it changes.',
      ),
  })
  .prefault({})
  .describe('TLS on the S3 endpoint and the admin service.')
  .meta({ 'x-pando-node': true })

export type TlsConfig = z.output<typeof tlsSection>

/** One file is of no use without the other. */
export function checkTls({ tls }: { readonly tls: TlsConfig }, context: z.RefinementCtx): void {
  if ((tls.certFile === '') === (tls.keyFile === '')) return
  const missing = tls.certFile === '' ? 'certFile' : 'keyFile'
  context.addIssue({ code: 'custom', path: ['tls', missing], message: 'certFile and keyFile go together' })
}
