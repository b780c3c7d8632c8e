import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ProjectProblem } from './policy-project.ts'

export interface NewProjectOptions {
  readonly folder: string
  readonly name: string
  /** Of Pando, written into the project so that its kit can be told apart. */
  readonly version: string
}

/** The compiler and the loader that this kit was tested with: a policy's bytes depend on them. */
const compilerPackages = ['assemblyscript', '@assemblyscript/loader']

/**
 * Writes a policy project that builds and passes its tests. Everything of ours that it needs is copied into `pdk/`.
 * @throws ProjectProblem when the folder is not empty or the name is none for a policy
 */
export function createProject({ folder, name, version }: NewProjectOptions): void {
  if (!/^[a-z][a-z0-9-]{0,62}$/.test(name))
    throw new ProjectProblem(
      `'${name}' is no name for a policy: lower-case letters, digits and hyphens, a letter first`,
    )
  if (existsSync(folder) && readdirSync(folder).length > 0)
    throw new ProjectProblem(`${folder} is not empty: choose another folder`)
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
  const json = (path: string, value: unknown) => write(path, `${JSON.stringify(value, null, 2)}\n`)
  const template = (path: string) =>
    readFileSync(join(checkout, 'plugins/kit/template', path), 'utf8')
      .replaceAll('NAME', name)
      .replaceAll('VERSION', version)
  json('package.json', {
    name,
    version: '0.1.0',
    private: true,
    type: 'module',
    scripts: { build: 'node pdk/build.mjs', test: 'node --test' },
    devDependencies: Object.fromEntries(compilerPackages.map((each) => [each, lockedVersion(each)])),
  })
  json('policy.json', {
    name,
    version: '0.1.0',
    description: 'Nightly backups stay out of the way',
    minHost: '1.0',
    reasons: {
      1: 'a backup robot writes it',
      2: 'the body is large',
      3: 'backups wait while the machine is busy',
    },
  })
  json('asconfig.json', JSON.parse(readFileSync(join(checkout, 'asconfig.json'), 'utf8')))
  json('assembly/tsconfig.json', { extends: 'assemblyscript/std/assembly.json', include: ['./**/*.ts'] })
  write('.gitignore', 'node_modules/\nbuild/\n')
  write('.npmrc', 'audit=false\nfund=false\nignore-scripts=true\n')
  for (const path of ['assembly/index.ts', 'vectors.json', 'test/policy.test.mjs', 'README.md'])
    write(path, template(path))
  copyKit(join(folder, 'pdk'), version)
}

/** Replaces `pdk/` of a project by this version's. */
export function copyKit(target: string, version: string): void {
  mkdirSync(target, { recursive: true })
  cpSync(join(checkout, 'plugins/pdk/assembly'), join(target, 'assembly'), { recursive: true })
  cpSync(join(checkout, 'plugins/abi/STRUCTS.md'), join(target, 'STRUCTS.md'))
  cpSync(join(checkout, 'plugins/kit/template/build.mjs'), join(target, 'build.mjs'))
  writeFileSync(join(target, 'VERSION'), `${version}\n`)
  for (const path of importsOf(['plugins/kit/build-policy.js', 'plugins/kit/open-project.js'])) {
    const text = readFileSync(join(compiled, path), 'utf8').replace(/\n\/\/# sourceMappingURL=.*\n?$/, '\n')
    const to = join(target, 'lib', path)
    mkdirSync(dirname(to), { recursive: true })
    writeFileSync(to, text)
  }
}

const here = dirname(fileURLToPath(import.meta.url))
/** This file runs as dist/plugins/kit/new-project.js. */
const compiled = resolve(here, '../..')
const checkout = resolve(compiled, '..')

/** The compiled files that these import, with themselves. A package among the imports would not be there in a project. */
function importsOf(entries: readonly string[]): readonly string[] {
  const found = new Set<string>()
  const visit = (path: string) => {
    if (found.has(path)) return
    found.add(path)
    const text = readFileSync(join(compiled, path), 'utf8')
    for (const [, from = ''] of text.matchAll(/^(?:import|export)\b[^'"]*?from ['"]([^'"]+)['"]/gm)) {
      if (from.startsWith('.')) visit(relative(compiled, resolve(compiled, dirname(path), from)))
      else if (!from.startsWith('node:'))
        throw new Error(`${path} imports ${from}, which a project does not have`)
    }
  }
  for (const entry of entries) visit(entry)
  return [...found]
}

function lockedVersion(name: string): string {
  const lock: { packages: Readonly<Record<string, { version?: string }>> } = JSON.parse(
    readFileSync(join(checkout, 'package-lock.json'), 'utf8'),
  )
  return lock.packages[`node_modules/${name}`]?.version ?? 'latest'
}
