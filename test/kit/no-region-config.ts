import type { RegionConfigAdministration } from '../../core/contract/region-config.ts'

/** For servers whose configuration nobody asks for. */
export const noRegionConfig: RegionConfigAdministration = {
  state: async () => ({ versions: [], nodes: [], silent: [] }),
  async apply() {
    throw new Error('nobody asks for this')
  },
}
