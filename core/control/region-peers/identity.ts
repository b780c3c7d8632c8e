import type { PeerCertificate } from 'node:tls'
import { StorageError } from '../../contract/errors.ts'
import { identityUri } from '../../contract/node-identity.ts'

/**
 * The node that a certificate is of. Its chain has been checked before. PEER_REFUSED when it is no node's of this region, or names
 * two.
 */
export function peerOf(certificate: PeerCertificate | undefined, regionId: number): string {
  const prefix = identityUri({ regionId, name: '' })
  // As Node writes it: "URI:pando://7/node-a, DNS:node-a, IP Address:10.0.0.1".
  const uris = (certificate?.subjectaltname ?? '')
    .split(', ')
    .flatMap((entry) => (entry.startsWith('URI:pando://') ? [entry.slice('URI:'.length)] : []))
  const [uri] = uris
  const name = uri?.startsWith(prefix) === true ? uri.slice(prefix.length) : ''
  if (uris.length !== 1 || name === '' || certificate?.subject.CN !== name) {
    throw new StorageError(
      'PEER_REFUSED',
      `the certificate shown is not that of a node of region ${regionId}`,
    )
  }
  return name
}
