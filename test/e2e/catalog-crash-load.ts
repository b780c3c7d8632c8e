import { etagOf } from '../kit/catalog-commands.ts'

/** What the process that is killed and the test that checks it agree on. */
export const crashWriters = 8
export const keysPerWriter = 5

/** The body that belongs to a number: of another length and content for each. */
export function crashBody(number: number): Uint8Array {
  const body = new Uint8Array(1 + ((number * 37) % 4000))
  for (let index = 0; index < body.length; index++) body[index] = (number + index * 31) & 0xff
  return body
}

export const crashEtag = (number: number): string => etagOf(number)
export const numberOf = (etag: string): number => Number.parseInt(etag, 16)

/** Every seventh operation deletes, the others put. */
export const isDelete = (number: number): boolean => number % 7 === 0
