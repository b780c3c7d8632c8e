import { aclRoutes } from './acl-operations.ts'
import { bucketRoutes } from './bucket-operations.ts'
import { corsRoutes } from './cors.ts'
import { objectRoutes } from './object-routes.ts'
import { policyRoutes } from './policy-operations.ts'
import type { Route } from './route.ts'
import { taggingRoutes } from './tagging.ts'
import { unconfiguredRoutes } from './unconfigured.ts'
import { versioningRoutes } from './versioning.ts'

/** The one routing table; families add their rows here. */
export const routes: readonly Route[] = [
  ...bucketRoutes,
  ...objectRoutes,
  ...aclRoutes,
  ...corsRoutes,
  ...policyRoutes,
  ...taggingRoutes,
  ...versioningRoutes,
  ...unconfiguredRoutes,
]
