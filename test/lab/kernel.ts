import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, delimiter, join } from 'node:path'

/** The kernel that `npm run setup -- --lab` unpacked (scripts/lab-kernel.mjs), and its modules. */
export interface LabKernel {
  /** Holds `vmlinuz` and `lib/modules/RELEASE`: what `modprobe -d` takes. */
  readonly folder: string
  readonly image: string
  /** Paths of modules and of all they need, in the order in which they must be inserted. */
  modulesFor(...names: string[]): readonly string[]
}

const labFolder =
  process.env['PANDO_LAB_FOLDER'] ??
  join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'pando/lab')

/** Why the lab cannot run on this machine, or undefined. The reason is what the list of skipped tests shows. */
export function whyNoLab(): string | undefined {
  const setup = 'npm run setup -- --lab'
  if (process.arch !== 'x64') return `the lab boots an x86-64 kernel; this is ${process.arch}`
  for (const program of ['qemu-system-x86_64', 'busybox', 'rdma', 'ibv_rc_pingpong', 'modprobe']) {
    if (findProgram(program) === undefined) return `${program} is not installed (${setup})`
  }
  if (!existsSync(join(labFolder, 'kernel/vmlinuz'))) return `no kernel in ${labFolder} (${setup})`
  return undefined
}

export function findProgram(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path))
}

/** REQUIRES: whyNoLab() is undefined. */
export function openLabKernel(): LabKernel {
  const folder = join(labFolder, 'kernel')
  const release = readdirSync(join(folder, 'lib/modules'))[0]
  if (release === undefined) throw new Error(`there are no modules in ${folder}`)
  const modules = join(folder, 'lib/modules', release)
  const needs = readDependencies(join(modules, 'modules.dep'))
  const builtIn = readFileSync(join(modules, 'modules.builtin'), 'utf8')
  return {
    folder,
    image: join(folder, 'vmlinuz'),
    modulesFor(...names) {
      const ordered = new Set<string>()
      for (const name of names) {
        const path = [...needs.keys()].find((key) => basename(key) === `${name}.ko`)
        if (path === undefined && builtIn.includes(`/${name}.ko`)) continue
        if (path === undefined) throw new Error(`kernel ${release} has no module ${name}`)
        // depmod lists what a module needs with the deepest need last.
        for (const need of [...(needs.get(path) ?? [])].reverse()) ordered.add(need)
        ordered.add(path)
      }
      return [...ordered].map((path) => join(modules, path))
    },
  }
}

function readDependencies(path: string): Map<string, readonly string[]> {
  const lines = readFileSync(path, 'utf8').split('\n')
  return new Map(
    lines.flatMap((line) => {
      const [name, needs] = line.split(':')
      if (name === undefined || needs === undefined) return []
      return [[name, needs.split(' ').filter((need) => need !== '')] as const]
    }),
  )
}
