import { z } from 'zod'
import {
  type RegionConfigAdministration,
  type RegionConfigState,
  regionConfigLimits,
} from '../contract/region-config.ts'
import { parse, type Unary } from './call.ts'

const label = (length: number) =>
  z
    .string()
    .max(length)
    .regex(/^\P{Cc}*$/u, 'no control characters')

const applyRequest = z.object({
  base: z.int().min(0),
  text: z.string().max(regionConfigLimits.textBytes),
  author: label(regionConfigLimits.author),
  comment: label(regionConfigLimits.comment),
})

/** The methods of config.proto, by name. */
export function configMethods(administration: RegionConfigAdministration): Readonly<Record<string, Unary>> {
  return {
    GetRegionConfig: () => administration.state(),
    ApplyRegionConfig: ({ message }) => administration.apply(parse(applyRequest, message)),
  }
}

/** Rejections are as those of AdminClient. */
export const createConfigClient = (
  call: <T>(method: string, message: object) => Promise<T>,
): RegionConfigAdministration => ({
  state: () => call<RegionConfigState>('GetRegionConfig', {}),
  apply: (change) => call<RegionConfigState>('ApplyRegionConfig', change),
})
