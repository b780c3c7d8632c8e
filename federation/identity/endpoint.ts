import type { TunnelAddress } from '../../core/contract/tunnel.ts'

/** `host:port` or `[v6]:port`; undefined when it is neither. */
export function parseEndpoint(text: string): TunnelAddress | undefined {
  const match = /^(?:\[([0-9a-fA-F:.%]{2,64})\]|([A-Za-z0-9._-]{1,253})):([0-9]{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port }
}

export const isWildcard = (host: string): boolean => host === '0.0.0.0' || host === '::'

export function formatAddress({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
