// Builds the built-in policies from AssemblyScript into dist/plugins/builtin/. Called by the set-up when a source of theirs
// has changed; needs the TypeScript build, whose tools it uses. Harmless to run again by hand.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const kit = (name) => import(pathToFileURL(join(root, 'dist/plugins/kit', name)).href)
const { buildPolicy } = await kit('build-policy.js')
const { ProjectProblem, readProject } = await kit('policy-project.js')

const sources = join(root, 'plugins/builtin')
const target = join(root, 'dist/plugins/builtin')
mkdirSync(target, { recursive: true })
try {
  for (const entry of readdirSync(sources, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue
    const project = readProject(join(sources, entry.name))
    const { wasm, hooks } = await buildPolicy(project, { asconfig: join(root, 'asconfig.json') })
    writeFileSync(join(target, `${project.name}.wasm`), wasm)
    console.log(`${project.name}: ${hooks.join(', ')} (${wasm.length} bytes)`)
  }
} catch (error) {
  console.error(error instanceof ProjectProblem ? error.message : error)
  process.exit(1)
}
