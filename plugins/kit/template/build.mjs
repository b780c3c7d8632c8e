// `npm run build`: what `pando policy build` does, for machines that do not have Pando.
import { buildPolicy, writePolicy } from './lib/plugins/kit/build-policy.js'
import { ProjectProblem, readProject } from './lib/plugins/kit/policy-project.js'

try {
  const project = readProject(process.cwd())
  const { wasm, hooks, vectorCount } = await buildPolicy(project)
  writePolicy(project, wasm)
  console.log(
    `${project.output}: ${wasm.length} bytes, hooks ${hooks.join(', ')}, ${vectorCount} golden vectors`,
  )
} catch (error) {
  if (!(error instanceof ProjectProblem)) throw error
  console.error(error.message)
  process.exitCode = 1
}
