import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { runStep, SetupError } from './terminal.mjs'

/**
 * Where the lab's kernel lies: outside the checkout, so that a fresh clone (CI makes one each time) does not download it
 * again. test/lab/kernel.ts looks in the same place.
 */
export function labFolder() {
  return (
    process.env.PANDO_LAB_FOLDER ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'pando/lab')
  )
}

const modules = './*lib/modules/*'
/** What the guest needs of a kernel package (patterns of tar): 70 MB instead of 400. */
const wantedPaths = [
  './boot/vmlinuz-*',
  `${modules}/modules.*`,
  ...['arch', 'block', 'crypto', 'fs', 'lib', 'net', 'virt'].map((name) => `${modules}/kernel/${name}/*`),
  ...['block', 'char', 'infiniband', 'nvme', 'vfio', 'virtio'].map(
    (name) => `${modules}/kernel/drivers/${name}/*`,
  ),
  ...['dummy', 'ifb', 'net_failover', 'veth', 'virtio_net'].map(
    (name) => `${modules}/kernel/drivers/net/${name}.ko*`,
  ),
]

// $1 the package, $2 where to, the rest what. Newer Debians compress modules, which BusyBox cannot insert, and merge /usr.
const unpack = `set -euo pipefail
package=$1 folder=$2; shift 2
dpkg-deb --fsys-tarfile "$package" | tar -x -C "$folder" --wildcards "$@"
mv "$folder"/boot/vmlinuz-* "$folder/vmlinuz"
rmdir "$folder/boot"
if [ -d "$folder/usr/lib" ]; then mv "$folder/usr/lib" "$folder/lib"; rmdir "$folder/usr"; fi
find "$folder/lib" -name '*.ko.xz' -exec xz -d {} +
for release in "$folder"/lib/modules/*; do depmod -b "$folder" "$(basename "$release")"; done
`

/**
 * Downloads Debian's stock kernel as a package and unpacks it, without installing it: it only ever boots inside QEMU. Does
 * nothing when one is there already.
 */
export async function ensureLabKernel({ cacheFolder }) {
  const folder = labFolder()
  if (existsSync(join(folder, 'kernel/vmlinuz'))) return
  if (process.arch !== 'x64') throw new SetupError(`the lab boots an x86-64 kernel; this is ${process.arch}`)
  mkdirSync(folder, { recursive: true })
  const work = mkdtempSync(join(folder, 'unpack-'))
  // apt fetches as its own user, and complains about a folder which that user cannot enter.
  chmodSync(work, 0o755)
  try {
    const name = stockKernelPackage()
    const download = () =>
      runStep(`Downloading ${name} for the lab (70 MB, not installed)`, 'apt-get', ['download', name], {
        cwd: work,
        logPath: join(cacheFolder, 'lab-kernel.log'),
      })
    try {
      await download()
    } catch (error) {
      if (!(error instanceof SetupError) || process.getuid?.() !== 0) throw error
      // The package lists name a version that the mirror has dropped.
      await runStep('Updating package lists', 'apt-get', ['update'], {
        logPath: join(cacheFolder, 'apt-update.log'),
      })
      await download()
    }
    const archive = readdirSync(work).find((file) => file.endsWith('.deb'))
    if (archive === undefined) throw new SetupError(`apt-get downloaded no ${name}`)
    const kernel = join(work, 'kernel')
    mkdirSync(kernel)
    await runStep(
      'Unpacking it',
      'bash',
      ['-c', unpack, 'bash', join(work, archive), kernel, ...wantedPaths],
      {
        env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
        logPath: join(cacheFolder, 'lab-kernel.log'),
      },
    )
    // Whole or not at all: a set-up that is cut off leaves no half kernel.
    rmSync(join(folder, 'kernel'), { recursive: true, force: true })
    renameSync(kernel, join(folder, 'kernel'))
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** The package behind `linux-image-amd64` (Debian), which depends on the newest kernel of the distribution. */
function stockKernelPackage() {
  const { stdout, status } = spawnSync('apt-cache', ['depends', 'linux-image-amd64'], { encoding: 'utf8' })
  const name = /Depends: (linux-image-\d\S*)/.exec(stdout ?? '')?.[1]
  if (status !== 0 || name === undefined) {
    throw new SetupError('apt-cache knows no linux-image-amd64; the lab needs the stock kernel of Debian')
  }
  return name
}
