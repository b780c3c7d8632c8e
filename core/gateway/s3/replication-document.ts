import { StorageError } from '../../contract/errors.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import { defaultRpoMs, type ReplicationRule } from '../../contract/replication.ts'
import { invalidArgument } from './errors.ts'
import { document, element, parseXml, type XmlElement } from './xml.ts'

/**
 * Between S3's replication document and a bucket's rule. A rule of S3 names one destination; the bucket's rule names all regions, has
 * one prefix and one objective, and tells everything that happens to a key. So all rules of a document agree in those, and what
 * would be left out or changed on the way is refused by name.
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-add-config.html
 */

/** A region that this one is joined with. */
export interface JoinedRegion {
  readonly regionId: number
  readonly name: string
}

/** What a document asks for, and the names that it uses, which are shown again. */
export interface WantedReplication {
  readonly regions: readonly number[]
  readonly prefix: string
  /** 0: what is in force, or the default. */
  readonly rpoMs: number
  readonly names: ReplicationNames
}

/** What only S3's clients know of: kept with the bucket, and meaning nothing to the regions. */
export interface ReplicationNames {
  readonly role: string
  readonly rules: readonly { readonly regionId: number; readonly id: string; readonly priority?: number }[]
}

/** S3's own limits. */
const maxIdChars = 255
const maxPrefixChars = 1024
const defaultRole = 'arn:aws:iam:::role/pando'

const malformed = (): StorageError =>
  new StorageError(
    'MALFORMED_XML',
    'The XML you provided was not well-formed or did not validate against our published schema',
  )

const unsupported = (what: string, why: string): StorageError =>
  new StorageError('NOT_IMPLEMENTED', `${what}: ${why}`)

/** MALFORMED_XML, INVALID_ARGUMENT, NOT_IMPLEMENTED with the part that there is not. */
export function parseReplication(
  text: string,
  bucket: BucketRecord,
  joined: readonly JoinedRegion[],
): WantedReplication {
  const root = parseXml(text, 'ReplicationConfiguration')
  const rules = root.all('Rule').map((rule) => parseRule(rule, bucket, joined))
  const [first] = rules
  if (first === undefined) throw malformed()
  for (const rule of rules) {
    if (rule.prefix !== first.prefix || rule.rpoMs !== first.rpoMs) {
      throw unsupported(
        'rules that differ',
        'all regions of a bucket have one prefix and one ReplicationTime',
      )
    }
  }
  const regions = rules.map(({ regionId }) => regionId)
  if (new Set(regions).size !== regions.length) {
    throw new StorageError('INVALID_REQUEST', 'Two rules have the same destination.')
  }
  const named = rules.filter(({ id }) => id !== undefined)
  if (new Set(named.map(({ id }) => id)).size !== named.length) {
    throw new StorageError('INVALID_ARGUMENT', 'Rule Id must be unique. Found same Id for more than one rule')
  }
  return {
    ...{ regions, prefix: first.prefix, rpoMs: first.rpoMs },
    names: {
      role: root.textOf('Role')?.trim() ?? defaultRole,
      rules: rules.map(({ regionId, id, priority }) => ({
        regionId,
        id: id ?? defaultId(regionId),
        ...(priority === undefined ? {} : { priority }),
      })),
    },
  }
}

interface ParsedRule {
  readonly regionId: number
  readonly prefix: string
  readonly rpoMs: number
  readonly id: string | undefined
  readonly priority: number | undefined
}

function parseRule(rule: XmlElement, bucket: BucketRecord, joined: readonly JoinedRegion[]): ParsedRule {
  if (statusOf(rule) === false) {
    throw unsupported('a disabled rule', 'a region is replicated to or it is not; leave the rule out')
  }
  const deletes = rule.child('DeleteMarkerReplication')
  if (deletes !== undefined && statusOf(deletes) === false) {
    throw unsupported('DeleteMarkerReplication Disabled', 'a copy has the delete markers of its source')
  }
  const existing = rule.child('ExistingObjectReplication')
  if (existing !== undefined && statusOf(existing) === false) {
    throw unsupported('ExistingObjectReplication Disabled', 'a copy has what was there before the rule, too')
  }
  if (rule.child('SourceSelectionCriteria') !== undefined) {
    throw unsupported('SourceSelectionCriteria', 'everything under the prefix is replicated')
  }
  const destination = rule.child('Destination')
  if (destination === undefined) throw malformed()
  const id = rule.textOf('ID')?.trim()
  if (id !== undefined && id.length > maxIdChars) {
    throw invalidArgument(`Rule Id can not be longer than ${maxIdChars} characters`, 'ID', id)
  }
  const priorityText = rule.textOf('Priority')?.trim()
  if (priorityText !== undefined && !/^\d{1,9}$/.test(priorityText)) throw malformed()
  return {
    regionId: regionOf(destination.textOf('Bucket')?.trim() ?? '', bucket, joined),
    prefix: prefixOf(rule),
    rpoMs: objectiveOf(destination),
    id: id === '' ? undefined : id,
    priority: priorityText === undefined ? undefined : Number(priorityText),
  }
}

function statusOf(of: XmlElement): boolean {
  const status = of.textOf('Status')?.trim()
  if (status !== 'Enabled' && status !== 'Disabled') throw malformed()
  return status === 'Enabled'
}

/** `Filter` of today's documents, `Prefix` of the older ones. */
function prefixOf(rule: XmlElement): string {
  const filter = rule.child('Filter')
  if (filter !== undefined && rule.child('Prefix') !== undefined) throw malformed()
  if (filter !== undefined && (filter.child('Tag') ?? filter.child('And')) !== undefined) {
    throw unsupported('Filter by tags', 'a rule has a prefix only')
  }
  const prefix = (filter ?? rule).textOf('Prefix') ?? ''
  if (prefix.length > maxPrefixChars) throw invalidArgument('The prefix is too long', 'Prefix', prefix)
  return prefix
}

/** S3 takes 15 minutes and nothing else; here any whole number of them is an objective. */
function objectiveOf(destination: XmlElement): number {
  for (const part of ['Account', 'StorageClass', 'AccessControlTranslation', 'EncryptionConfiguration']) {
    if (destination.child(part) !== undefined) {
      throw unsupported(
        `Destination ${part}`,
        'a copy has owner, storage class and access list of its source',
      )
    }
  }
  const time = destination.child('ReplicationTime')
  const metrics = destination.child('Metrics')
  if (metrics !== undefined) statusOf(metrics)
  if (time === undefined || statusOf(time) === false) return 0
  const text = time.child('Time')?.textOf('Minutes')?.trim() ?? ''
  if (!/^\d{1,5}$/.test(text) || Number(text) === 0) {
    throw invalidArgument('ReplicationTime has a whole number of minutes', 'Minutes', text)
  }
  return Number(text) * 60_000
}

/** `arn:aws:s3:REGION::BUCKET`: the bucket of the same name in a region, by its name or number. */
function regionOf(arn: string, bucket: BucketRecord, joined: readonly JoinedRegion[]): number {
  const form = /^arn:[a-z-]{1,32}:s3:([^:/]*):[^:/]*:([^/]+)$/.exec(arn)
  const [, region = '', name = ''] = form ?? []
  if (form === null || region === '') {
    throw invalidArgument(
      `The destination is 'arn:aws:s3:REGION::${bucket.name}' with the name or number of a joined region`,
      'Bucket',
      arn,
    )
  }
  if (name !== bucket.name) {
    throw invalidArgument('A bucket has the same name in all regions that hold it', 'Bucket', arn)
  }
  const found = joined.find(({ regionId, name: known }) => known === region || String(regionId) === region)
  if (found === undefined) {
    throw invalidArgument(`This region is not joined with a region '${region}'`, 'Bucket', arn)
  }
  return found.regionId
}

const defaultId = (regionId: number): string => `region-${regionId}`

/** What is in force, as S3's document; `names` of the last document where it said something of a region. */
export function renderReplication(
  bucket: BucketRecord,
  rule: ReplicationRule,
  here: number,
  joined: readonly JoinedRegion[],
  names: ReplicationNames | undefined,
): string {
  const rules = rule.members
    .filter((regionId) => regionId !== here)
    .map((regionId, at) => {
      const named = names?.rules.find((known) => known.regionId === regionId)
      const region = joined.find((known) => known.regionId === regionId)?.name ?? String(regionId)
      const minutes = rule.rpoMs / 60_000
      const objective =
        rule.rpoMs === defaultRpoMs || !Number.isInteger(minutes)
          ? ''
          : `<ReplicationTime><Status>Enabled</Status><Time>${element('Minutes', minutes)}</Time></ReplicationTime>` +
            `<Metrics><Status>Enabled</Status><EventThreshold>${element('Minutes', minutes)}</EventThreshold></Metrics>`
      return (
        `<Rule>${element('ID', named?.id ?? defaultId(regionId))}${element('Priority', named?.priority ?? at)}` +
        `<Status>Enabled</Status><Filter>${element('Prefix', rule.prefix)}</Filter>` +
        '<DeleteMarkerReplication><Status>Enabled</Status></DeleteMarkerReplication>' +
        '<ExistingObjectReplication><Status>Enabled</Status></ExistingObjectReplication>' +
        `<Destination>${element('Bucket', `arn:aws:s3:${region}::${bucket.name}`)}${objective}</Destination></Rule>`
      )
    })
  return document('ReplicationConfiguration', element('Role', names?.role ?? defaultRole) + rules.join(''))
}

export const serializeNames = (names: ReplicationNames): string => JSON.stringify(names)
/** Our own form, written by `serializeNames`. */
export const deserializeNames = (text: string): ReplicationNames => JSON.parse(text) as ReplicationNames
