import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { packCpio } from './cpio.ts'
import { findProgram, openLabKernel } from './kernel.ts'

/** Something that the guest does: a shell script, run by `sh` in the checkout, on the host's own programs. */
export interface LabJob {
  readonly name: string
  readonly script: string
}

export interface JobOutcome {
  readonly code: number
  readonly output: string
}

/** A guest that works through its jobs in order. */
export interface LabGuest extends AsyncDisposable {
  /** A folder that host and guest both write; `$SHARE` in a job. */
  readonly share: string
  /** Waits until the job of this name is over; rejects when the guest has ended, or the time limit, before that. */
  outcome(name: string): Promise<JobOutcome>
  /** Waits until the guest has powered off. */
  ended(): Promise<void>
  /** What the guest's console showed, and its kernel log where it came that far: for failure messages. */
  postMortem(): string
}

export interface LabOptions {
  readonly jobs: readonly LabJob[]
  /** More arguments of QEMU. */
  readonly hardware?: readonly string[]
  /** More words of the kernel's command line. */
  readonly kernelWords?: string
  /** From power-on to power-off; the guest is killed after it. */
  readonly timeoutMs: number
}

/**
 * Boots the lab's kernel in QEMU on the host's own root file system, which it can only read, and lets it do the jobs. No
 * network leads out of the guest. Software emulation unless the processor has hardware virtualisation that may be used.
 */
export async function bootGuest({
  jobs,
  hardware = [],
  kernelWords = '',
  timeoutMs,
}: LabOptions): Promise<LabGuest> {
  const kernel = openLabKernel()
  const folder = await mkdtemp(join(tmpdir(), 'pando-lab-'))
  const share = await mkdtemp(join(folder, 'share-'))
  const names = jobs.map(({ name }, index) => `${String(index).padStart(3, '0')}-${name}`)
  const initial = join(folder, 'initial.cpio')
  await writeFile(initial, packInitialFiles(kernel.modulesFor('virtio_pci', '9pnet_virtio', '9p')))
  for (const [index, job] of jobs.entries()) await writeFile(join(share, `${names[index]}.job`), job.script)

  const lab = resolve('test/lab/guest')
  const accelerator = hasHardwareVirtualisation() ? 'kvm' : 'tcg,thread=multi'
  const commandLine = [
    `console=ttyS0 loglevel=4 panic=-1 random.trust_cpu=on${kernelWords === '' ? '' : ` ${kernelWords}`}`,
    `pando.second=${join(lab, 'second.sh')} pando.kernel=${kernel.folder} pando.lab=${lab} pando.cwd=${resolve('.')}`,
  ].join(' ')
  if (/["']|\s{2}/.test(commandLine) || [kernel.folder, lab].some((path) => path.includes(' '))) {
    throw new Error(`the lab cannot pass a path with spaces or quotes to a kernel: ${commandLine}`)
  }
  const nineP = (path: string, tag: string, more: string) => [
    '-virtfs',
    `local,path=${path.replaceAll(',', ',,')},mount_tag=${tag},security_model=none,multidevs=remap${more}`,
  ]
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...['-machine', 'q35', '-accel', accelerator, '-cpu', 'max', '-smp', '2', '-m', '3072'],
      ...['-nodefaults', '-no-user-config', '-nographic', '-no-reboot', '-serial', 'stdio', '-nic', 'none'],
      ...['-kernel', kernel.image, '-initrd', initial, '-append', `${commandLine} `],
      ...nineP('/', 'host', ',readonly=on'),
      ...nineP(share, 'share', ''),
      ...['-device', 'virtio-rng-pci'],
      ...hardware,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let output = ''
  for (const stream of [qemu.stdout, qemu.stderr]) stream.on('data', (bytes) => (output += bytes))
  const end = endOf(qemu, timeoutMs)
  const logged = (name: string): string =>
    existsSync(join(share, name)) ? `----- ${name}\n${readFileSync(join(share, name), 'utf8')}\n` : ''
  const postMortem = (): string =>
    `----- console\n${output}\n${logged('network.log')}${logged('dmesg.log')}`.slice(-6000)

  return {
    share,
    postMortem,
    async outcome(name) {
      const path = join(share, names[jobs.findIndex((job) => job.name === name)] ?? '')
      if (path === join(share, '')) throw new Error(`there is no job ${name}`)
      let over = ''
      void end.then((reason) => (over = reason))
      for (let last = false; !existsSync(`${path}.code`); last = over !== '') {
        const log = existsSync(`${path}.log`) ? await readFile(`${path}.log`, 'utf8') : ''
        if (last) throw new Error(`${name} did not end: ${over}\n${postMortem()}\n----- ${name}\n${log}`)
        await sleep(50)
      }
      return {
        code: Number(await readFile(`${path}.code`, 'utf8')),
        output: await readFile(`${path}.log`, 'utf8'),
      }
    },
    async ended() {
      const reason = await end
      // A kernel that panics powers off as well.
      if (!existsSync(join(share, 'ended')))
        throw new Error(`not all jobs were done: ${reason}\n${postMortem()}`)
    },
    async [Symbol.asyncDispose]() {
      qemu.kill('SIGKILL')
      await end
      await rm(folder, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}

/** Resolves with how it ended. A test process that ends early takes its guest with it. */
function endOf(qemu: ChildProcess, timeoutMs: number): Promise<string> {
  const orphaned = (): boolean => qemu.kill('SIGKILL')
  process.once('exit', orphaned)
  return new Promise((settle) => {
    let late = false
    const timer = setTimeout(() => {
      late = true
      qemu.kill('SIGKILL')
    }, timeoutMs)
    const finish = (reason: string): void => {
      clearTimeout(timer)
      process.off('exit', orphaned)
      settle(late ? `the guest was killed after ${timeoutMs} ms` : reason)
    }
    qemu.once('error', (error) => finish(`QEMU did not run: ${error.message}`))
    qemu.once('close', (code, signal) =>
      finish(code === 0 ? 'the guest powered off' : `QEMU ended with ${signal ?? code}`),
    )
  })
}

/**
 * /dev/kvm alone proves nothing: some hosts offer one that boots only kernels made for them. PANDO_LAB_KVM=no forces
 * software emulation.
 */
function hasHardwareVirtualisation(): boolean {
  return (
    process.env['PANDO_LAB_KVM'] !== 'no' &&
    existsSync('/dev/kvm') &&
    /^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'utf8')) &&
    process.getuid?.() === 0
  )
}

function packInitialFiles(modules: readonly string[]): Buffer {
  const busybox = findProgram('busybox')
  if (busybox === undefined) throw new Error('busybox is not installed')
  return packCpio([
    { path: 'bin', mode: 0o755 },
    { path: 'modules', mode: 0o755 },
    { path: 'bin/busybox', mode: 0o755, body: readFileSync(busybox) },
    { path: 'init', mode: 0o755, body: readFileSync('test/lab/guest/first.sh') },
    {
      path: 'modules/order',
      mode: 0o644,
      body: Buffer.from(`${modules.map((path) => basename(path)).join('\n')}\n`),
    },
    ...modules.map((path) => ({
      path: `modules/${basename(path)}`,
      mode: 0o644,
      body: readFileSync(path),
    })),
  ])
}
