import { StorageError } from '../../contract/errors.ts'
import type { BucketRecord } from '../../contract/object-model.ts'
import { judgePlace, placesOf } from './causal-history.ts'
import { type CausalToken, decodeToken, encodeToken, noToken, tokenHeader } from './causal-token.ts'
import { invalidArgument } from './errors.ts'
import type { Gateway, Identity, Operation, S3Request, S3Response } from './operation.ts'
import { WaitingPlaces, waitingAccount } from './waiting-places.ts'

/** How long the request may wait, milliseconds: for the state that its token names, or until another region has what it wrote. */
export const waitHeader = 'x-pando-wait-ms'

const defaultWaitMs = 2_000
const longestWaitMs = 30_000
/** Of one gateway, and of one account (strangers together are one), so that nobody keeps the others from waiting. More are told to come again. */
const mostWaiting = 256
const mostWaitingOfOne = 64
const firstLookMs = 2
const longestLookMs = 40

/** A request to a bucket, as far as it is about what its client has seen before. */
export interface CausalRequest {
  /** Until what the token names is here; undefined: it is. REPLICA_BEHIND, WRITE_LOST, INVALID_ARGUMENT. */
  readonly wait: Promise<void> | undefined
  /** Names and values for the answer. */
  fields(answer: Pick<S3Response, 'status' | 'place'>): readonly string[]
}

/**
 * Tokens by which a client sees, in whatever region it asks, what it has seen or written in another. Of requests that may be made:
 * to others a token says nothing.
 */

export function createCausalRequests(gateway: Gateway) {
  const { catalog, environment } = gateway
  const here = gateway.replication?.regionId ?? 0
  const waiting = new WaitingPlaces(mostWaiting, mostWaitingOfOne)

  /** Whether all that the token names is here. */
  const isHere = (bucket: BucketRecord, { places }: CausalToken): boolean => {
    let isAll = true
    for (const place of places) {
      const verdict = judgePlace(catalog, bucket, here, place)
      if (verdict === 'unknown') throw noToken('no region has told of this place, or none knows it any more')
      if (verdict === 'lost') {
        throw new StorageError(
          'WRITE_LOST',
          'What the token names was acknowledged by a region that has been replaced, and did not survive.',
          { details: { OriginRegion: String(place.region) } },
        )
      }
      if (verdict === 'behind') isAll = false
    }
    return isAll
  }

  const comes = async (
    bucket: BucketRecord,
    token: CausalToken,
    waitMs: number,
    signal: AbortSignal,
    account: string,
  ): Promise<void> => {
    const { clock } = environment
    const untilMs = clock.monotonic() + waitMs
    if (!waiting.take(account)) throw behind(token)
    try {
      for (let lookMs = firstLookMs; ; lookMs = Math.min(lookMs * 2, longestLookMs)) {
        const leftMs = untilMs - clock.monotonic()
        if (leftMs <= 0) throw behind(token)
        await clock.sleep(Math.min(lookMs, leftMs), signal)
        if (isHere(bucket, token)) return
      }
    } finally {
      waiting.free(account)
    }
  }

  return {
    /** REQUIRES that the client may make the request. Undefined: the bucket is in one region, and nothing was asked. */
    of(
      request: S3Request,
      bucket: BucketRecord,
      operation: Operation,
      identity: Identity,
    ): CausalRequest | undefined {
      const text = request.header(tokenHeader)
      if (text === undefined && bucket.replicated !== true) return undefined
      const token = text === undefined ? undefined : decodeToken(text)
      if (token !== undefined && token.bucket !== bucket.name) throw noToken('it is of another bucket')
      const waitMs = waitOf(request) ?? defaultWaitMs
      const isReady = token === undefined || isHere(bucket, token)
      const account = waitingAccount(identity)
      return {
        wait: isReady ? undefined : comes(bucket, token, waitMs, request.signal, account),
        fields({ status, place }) {
          // That there is nothing is an observation too. What judges each key by itself may have refused them all.
          const isSeen = (status < 400 || status === 404) && operation.action !== null
          if (!isSeen && place === undefined) return []
          const places = placesOf(catalog, bucket.id, here, token?.places ?? [], place)
          return places.length === 0 ? [] : [tokenHeader, encodeToken({ bucket: bucket.name, places })]
        },
      }
    },
  }
}

const behind = ({ places }: CausalToken): StorageError =>
  new StorageError('REPLICA_BEHIND', 'What the token names has not arrived in this region yet.', {
    retryAfterMs: 1_000,
    details: { OriginRegion: String(places[0]?.region ?? 0) },
  })

/** Undefined: the request does not say. INVALID_ARGUMENT. */
export function waitOf(request: Pick<S3Request, 'header'>): number | undefined {
  const text = request.header(waitHeader)
  if (text === undefined) return undefined
  if (!/^\d{1,5}$/.test(text) || Number(text) > longestWaitMs) {
    const why = `a wait is a whole number of milliseconds up to ${longestWaitMs}`
    throw invalidArgument(why, waitHeader, text.slice(0, 32))
  }
  return Number(text)
}

export type CausalRequests = ReturnType<typeof createCausalRequests>
