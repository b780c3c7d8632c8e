import { aclRoutes } from './acl-operations.ts'
import { bucketRoutes } from './bucket-operations.ts'
import { corsRoutes } from './cors.ts'
import { multipartListingRoutes } from './multipart-listing.ts'
import { multipartRoutes } from './multipart-upload.ts'
import { objectAttributesRoutes } from './object-attributes.ts'
import { objectRoutes } from './object-routes.ts'
import { policyRoutes } from './policy-operations.ts'
import { postRoutes } from './post-object.ts'
import { replicationRoutes } from './replication-operations.ts'
import type { Route } from './route.ts'
import { taggingRoutes } from './tagging.ts'
import { topologyRoutes } from './topology.ts'
import { unconfiguredRoutes } from './unconfigured.ts'
import { versioningRoutes } from './versioning.ts'

/** The one routing table; families add their rows here. */
export const routes: readonly Route[] = [
  ...bucketRoutes,
  ...objectRoutes,
  ...objectAttributesRoutes,
  ...multipartRoutes,
  ...multipartListingRoutes,
  ...postRoutes,
  ...aclRoutes,
  ...corsRoutes,
  ...policyRoutes,
  ...replicationRoutes,
  ...taggingRoutes,
  ...topologyRoutes,
  ...versioningRoutes,
  ...unconfiguredRoutes,
]
