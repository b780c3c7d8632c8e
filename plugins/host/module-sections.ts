/** Custom sections of a policy: what it is, and the decisions that it must reproduce before it may serve. */
export const manifestSection = 'pando.manifest'
export const vectorsSection = 'pando.vectors'
