import { isAtLeast, type NatsProgram } from './server-program.ts'

export interface NatsServerSettings {
  /** Unique in the region; JetStream knows the server by it: it must not change. */
  readonly name: string
  /** For the clients: the nodes of this region. */
  readonly listen: HostPort
  /**
   * Several servers that elect who orders: what others run. Absent: a server that orders on its own, as the nodes of a region run them;
   * when it is lost the region founds its log anew on another one, sooner than an election would end.
   */
  readonly cluster?: {
    readonly name: string
    readonly listen: HostPort
    /** `host:port` of the other servers' routes. Its own may stand among them. */
    readonly routes: readonly string[]
  }
  readonly tls: {
    readonly caPath: string
    readonly certificatePath: string
    readonly keyPath: string
  }
  readonly secrets: {
    readonly user: string
    readonly password: string
    readonly routeUser: string
    readonly routePassword: string
  }
  /** What the log may take on disk: it is trimmed all the time, so this is a bound, not a need. */
  readonly maxStoreBytes: number
}

export interface HostPort {
  readonly host: string
  readonly port: number
}

/** A whole record of 1 MiB with its headers and subject. */
export const maxPayloadBytes = 1024 * 1024 + 8192

/**
 * The configuration of a server. Every value that is text is quoted as JSON, which is a subset of what the server reads; names
 * and secrets cannot break out of it.
 */
export function natsServerConfig(
  settings: NatsServerSettings,
  files: { readonly store: string },
  version: NatsProgram['version'],
): string {
  const { name, listen, cluster, tls, secrets, maxStoreBytes } = settings
  const text = JSON.stringify
  const tlsBlock = (indent: string): string =>
    [
      'tls {',
      `  ca_file: ${text(tls.caPath)}`,
      `  cert_file: ${text(tls.certificatePath)}`,
      `  key_file: ${text(tls.keyPath)}`,
      // Both sides show a certificate of the region's authority.
      '  verify: true',
      '  timeout: 5',
      '}',
    ]
      .map((line) => indent + line)
      .join('\n')
  const lines = [
    '# Written by Pando at every start; changes are lost.',
    `server_name: ${text(name)}`,
    `listen: ${text(formatHostPort(listen))}`,
    `max_payload: ${maxPayloadBytes}`,
    'max_connections: 4096',
    'ping_interval: "10s"',
    'ping_max: 2',
    'write_deadline: "5s"',
    tlsBlock(''),
    'authorization {',
    `  user: ${text(secrets.user)}`,
    `  password: ${text(secrets.password)}`,
    '  timeout: 5',
    '}',
    'jetstream {',
    `  store_dir: ${text(files.store)}`,
    // Consumers live in memory; streams never do.
    `  max_memory_store: ${64 * 1024 * 1024}`,
    `  max_file_store: ${maxStoreBytes}`,
    // Without it the server writes back whenever the kernel likes, for two minutes and longer.
    ...(isAtLeast(version, [2, 10, 0]) ? ['  sync_interval: always'] : []),
    '}',
  ]
  if (cluster !== undefined) {
    const own = formatHostPort(cluster.listen)
    const credentials = `${encodeURIComponent(secrets.routeUser)}:${encodeURIComponent(secrets.routePassword)}`
    lines.push(
      'cluster {',
      `  name: ${text(cluster.name)}`,
      `  listen: ${text(own)}`,
      '  authorization {',
      `    user: ${text(secrets.routeUser)}`,
      `    password: ${text(secrets.routePassword)}`,
      '    timeout: 5',
      '  }',
      tlsBlock('  '),
      '  routes: [',
      ...cluster.routes.map((route) => `    ${text(`nats-route://${credentials}@${route}`)}`),
      '  ]',
      // Servers and clients know each other's addresses from the configuration.
      '  no_advertise: true',
      '  connect_retries: 3',
      '}',
    )
  }
  return `${lines.join('\n')}\n`
}

export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
