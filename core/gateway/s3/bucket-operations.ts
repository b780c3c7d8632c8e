import type { Route } from './route.ts'

export const bucketRoutes: readonly Route[] = []
