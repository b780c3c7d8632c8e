/** The part of the configuration that a region has in common, in versions: each is an entry of the catalog. */
export interface ConfigVersion {
  /** 1 for the first one; each follows the one before. */
  readonly version: number
  /** YAML as it was given, comments and all. */
  readonly text: string
  /** SHA-256 of the text in hex. */
  readonly hash: string
  /** Who says that he made it. */
  readonly author: string
  readonly comment: string
  /** By the clock of the node that took it. */
  readonly madeMs: number
}

export const regionConfigLimits = {
  textBytes: 64 * 1024,
  author: 64,
  comment: 256,
  keptVersions: 32,
} as const

/**
 * What the region's configuration is from this entry on. CONFLICT unless `base` is the version in force (0: none): of two who change the
 * same version the second looks again.
 */
export type RegionConfigCommand = { readonly type: 'set-region-config'; readonly base: number } & Pick<
  ConfigVersion,
  'text' | 'author' | 'comment'
>

export interface RegionConfigResults {
  'set-region-config': { readonly version: number }
}

export interface RegionConfigReads {
  /** The version in force, or the one named; undefined when there is none, or it is not kept any more. */
  regionConfig(version?: number): ConfigVersion | undefined
  /** 0 before the first one. */
  regionConfigVersion(): number
  /** The newest first; of the last 32. */
  regionConfigs(): readonly ConfigVersion[]
}

/** How a node stands to the region's configuration. */
export interface NodeConfigState {
  readonly node: string
  /** The version that it has taken; 0: none. */
  readonly version: number
  /** Dotted keys of it that count after a restart of this node. */
  readonly afterRestart: readonly string[]
  /** Why it cannot take the newest one; empty: it has. */
  readonly problem: string
}

export interface RegionConfigState {
  readonly versions: readonly ConfigVersion[]
  /** This node first. */
  readonly nodes: readonly NodeConfigState[]
  /** Nodes of the region that do not answer. */
  readonly silent: readonly string[]
}

export interface RegionConfigAdministration {
  state(): Promise<RegionConfigState>
  /** INVALID_CONFIG tells every problem; CONFLICT when `base` is not the version in force. */
  apply(change: Omit<RegionConfigCommand, 'type'>): Promise<RegionConfigState>
}
