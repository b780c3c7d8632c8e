import { simulateFailover, small, smallWide } from './failover.sim.ts'
import { simulateReplication, small as smallReplication } from './replication.sim.ts'

/** Simulations of which there are ten thousand: one seed of each. */
const failoverSteps = 40
const wideSteps = 200
const replicationSteps = 50

export const failover = (seed: number) => simulateFailover(seed, failoverSteps, small)
export const wideFailover = (seed: number) => simulateFailover(seed, wideSteps, smallWide)
export const unfencedFailover = (seed: number) => simulateFailover(seed, failoverSteps, small, true)
export const replication = (seed: number) => simulateReplication(seed, replicationSteps, smallReplication)
/** Of three regions, so that a rule may be taken away in one of them and given again. */
export const largeReplication = (seed: number) => simulateReplication(seed, 300)
