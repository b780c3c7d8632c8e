import { StorageError } from '../contract/errors.ts'
import { builtinClasses, type PolicyTables, type QosClassConfig, type QosConfig } from '../contract/qos.ts'

/** The classes of a configuration in the order of their indexes: the built-in ones, then its own. */
export function classNames(config: QosConfig): readonly string[] {
  const own = Object.keys(config.classes).filter((name) => !isBuiltin(name))
  return [...builtinClasses, ...own]
}

const isBuiltin = (name: string): boolean => builtinClasses.some((builtin) => builtin === name)

export function classConfig(config: QosConfig, name: string): QosClassConfig {
  const numbers = Object.hasOwn(config.classes, name) ? config.classes[name] : undefined
  if (numbers === undefined) throw new StorageError('INVALID_CONFIG', `qos: class '${name}' is not defined`)
  return numbers
}

/** Names that the configuration mentions; everybody else is 0 to a policy. */
export function policyTables(config: QosConfig): PolicyTables {
  const tenants = new Set<string>()
  const buckets = new Set<string>()
  for (const { tenant, bucket } of [...config.budgets, ...config.rules]) {
    if (tenant !== undefined && !tenant.includes('*')) tenants.add(tenant)
    if (bucket !== undefined && !bucket.includes('*')) buckets.add(bucket)
  }
  for (const name of Object.keys(config.tenantWeights)) if (!name.includes('*')) tenants.add(name)
  return { classes: classNames(config), tenants: ['', ...tenants], buckets: ['', ...buckets] }
}

/** What a schema cannot see: names that refer to each other. INVALID_CONFIG. */
export function checkQosConfig(config: QosConfig): void {
  const names = new Set(classNames(config))
  const known = (name: string, where: string): void => {
    if (names.has(name)) return
    throw new StorageError(
      'INVALID_CONFIG',
      `qos.${where}: there is no class '${name}'; known: ${[...names].join(', ')}`,
    )
  }
  known(config.defaultClass, 'defaultClass')
  config.rules.forEach((rule, index) => {
    known(rule.class, `rules.${index}.class`)
  })
  config.budgets.forEach((budget, index) => {
    if (budget.class !== undefined) known(budget.class, `budgets.${index}.class`)
  })
}
