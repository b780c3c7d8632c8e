import { StorageError } from '../contract/errors.ts'

/** A region's number as it is typed. INVALID_ARGUMENT. */
export function regionId(text: string, option: string): number {
  const id = Number(text)
  if (text.trim() === '' || !Number.isInteger(id) || id < 0 || id > 0xffff) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      `${option}: '${text}' is not the number of a region, 0 to 65535`,
    )
  }
  return id
}

/** `2,3`, or `none`. */
export function regionIds(text: string, option: string): readonly number[] {
  return text === 'none' ? [] : text.split(',').map((one) => regionId(one, option))
}
