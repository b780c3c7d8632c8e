import type { Command } from '../contract/catalog.ts'

/** What a full device must still allow, or it could never become less full. */
const alwaysAllowed: ReadonlySet<Command['type']> = new Set([
  'delete-objects',
  'delete-bucket',
  'abort-upload',
  'collected',
  'set-access-key-enabled',
  // Keys that another region has revoked. What it brings is bounded.
  'take-access-keys',
  // A policy that makes a full device worse can be taken back. The record replaces its predecessor and is bounded.
  'deploy-policies',
  // Nodes come, go and are replaced on full devices too.
  'set-cluster-map',
  'recover-region',
  // A key that was lost to somebody else is revoked whatever is full.
  'set-federation',
  // So can a configuration that fills a device. Versions are bounded.
  'set-region-config',
  // Acknowledged entries of an outbox are what lets bodies go. (The last way out is to take a rule away.)
  'set-replication',
  'acknowledge-outbox',
  'trim-outbox',
  'collect-tombstones',
  // It replaces its predecessor; without it a voter that is full would take the lease from a primary that is not.
  'grant-lease',
  // What gives space back is done under one.
  'acquire-lock',
  'renew-lock',
  'release-lock',
])

export const isAllowedWhenFull = ({ type }: Command): boolean => alwaysAllowed.has(type)
