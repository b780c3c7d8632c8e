import { bucketRoutes } from './bucket-operations.ts'
import type { Route } from './route.ts'

/** The one routing table; families add their rows here. */
export const routes: readonly Route[] = [...bucketRoutes]
