import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { spdkState } from '../../native/addon.ts'
import { bootGuest } from './guest.ts'
import { openLabKernel, whyNoLab } from './kernel.ts'

const program = 'native/build/release/test/spdk_test'

function whyNot(): string | false {
  const { reason } = spdkState()
  if (reason !== '') return reason
  const lab = whyNoLab()
  if (lab !== undefined) return lab
  if (!existsSync(program)) return `${program} is not built`
  try {
    openLabKernel().modulesFor('vfio-pci')
  } catch {
    return "the lab's kernel was unpacked without vfio: remove its folder, then npm run setup -- --lab"
  }
  return false
}

/** vfio gives the device to user space; without remapped interrupts only when it is told that this guest trusts its devices. */
const script = `set -eux
modprobe -d "$KERNEL" vfio-pci
modprobe -d "$KERNEL" vfio_iommu_type1
echo 1 >/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
for device in /sys/bus/pci/devices/*; do
  [ "$(cat "$device/class")" != 0x010802 ] || address=$(basename "$device")
done
echo vfio-pci >"/sys/bus/pci/devices/$address/driver_override"
echo "$address" >/sys/bus/pci/drivers_probe
echo 600 >/proc/sys/vm/nr_hugepages
mkdir -p /run/huge
mount -t hugetlbfs none /run/huge
mount -t tmpfs none /var/tmp
PANDO_SPDK_NVME=$address timeout 500 ${program} --gtest_filter='*AnNvmeDevice*'
`

test('an NVMe device that SPDK drives from user space keeps what was acknowledged before each of three kills', {
  skip: whyNot(),
  timeout: 700_000,
}, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'pando-nvme-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const disk = join(folder, 'disk')
  const file = await open(disk, 'wx')
  await file.truncate(1200 * 1024 * 1024)
  await file.close()
  await using guest = await bootGuest({
    jobs: [{ name: 'nvme', script }],
    // SPDK's memory has addresses beyond the 39 bits that this IOMMU has unless told.
    hardware: [
      ...['-device', 'intel-iommu,intremap=on,caching-mode=on,aw-bits=48'],
      ...['-drive', `file=${disk.replaceAll(',', ',,')},if=none,id=disk,format=raw`],
      ...['-device', 'nvme,drive=disk,serial=pando'],
    ],
    kernelWords: 'intel_iommu=on',
    timeoutMs: 600_000,
  })
  const { code, output } = await guest.outcome('nvme')
  assert.equal(code, 0, output.slice(-6000))
  assert.match(output, /\[ {2}PASSED {2}\] 1 test/)
})
