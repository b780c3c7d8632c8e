/** `import { PandoAdmin } from 'pando/sdk/admin'`: administration from Node and from pages of the console. */
export { type ClientErrorCode, PandoError } from '../client/errors.ts'
export type { AdminChannel } from './channel.ts'
export type { AdminCallOptions, PandoAdminOptions } from './connection.ts'
export type { JobOptions } from './jobs.ts'
export { type MetricSample, MetricSet, parseMetrics } from './metrics.ts'
export { PandoAdmin } from './pando-admin.ts'
export type * from './types.ts'
