import { StorageError } from '../../core/contract/errors.ts'
import type {
  TunnelBackend,
  TunnelBackendName,
  TunnelDialOptions,
  TunnelSession,
} from '../../core/contract/tunnel.ts'
import { parseEndpoint } from '../identity/endpoint.ts'

/** The first that answers, of all addresses and back ends in their order. The last failure; the reason of the signal. */
export async function dialAny(
  backends: readonly TunnelBackend[],
  endpoints: readonly string[],
  options: Omit<TunnelDialOptions, 'address'>,
  by?: TunnelBackendName,
): Promise<TunnelSession> {
  let failure: unknown = new StorageError('PEER_UNREACHABLE', 'the region has told no address')
  for (const endpoint of endpoints) {
    const address = parseEndpoint(endpoint)
    if (address === undefined) continue
    for (const backend of backends) {
      if (by !== undefined && backend.name !== by) continue
      try {
        return await backend.dial({ ...options, address })
      } catch (reason) {
        options.signal.throwIfAborted()
        failure = reason
      }
    }
  }
  throw failure
}
