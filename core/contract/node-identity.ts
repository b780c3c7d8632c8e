/** A node of a region, as its certificate names it. */
export interface NodeIdentity {
  readonly regionId: number
  readonly name: string
}

/**
 * The URI that stands in the certificate of a node: a name that no address can be mistaken for. Whoever asks a certificate which
 * node it is looks at this entry and at the common name, never at the addresses.
 */
export function identityUri({ regionId, name }: NodeIdentity): string {
  return `pando://${regionId}/${name}`
}
