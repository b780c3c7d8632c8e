#!/bin/busybox sh
# The first process of the guest, in its memory file system with nothing but BusyBox: inserts what the host's root is
# reached with, mounts it read-only, and goes on there. /modules holds the modules in the order of their dependencies.
set -eu
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /host
mount -t proc proc /proc
for module in $(cat /modules/order); do insmod "/modules/$module"; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro host /host
for folder in proc sys dev run; do
  [ -d "/host/$folder" ] || { echo "lab: the host has no /$folder to mount on"; poweroff -f; }
done
mount --move /proc /host/proc
mount -t sysfs sys /host/sys
mount -t devtmpfs dev /host/dev
mount -t tmpfs -o size=1g tmp /host/run
exec switch_root /host /bin/sh "$(sed 's/.*pando\.second=\([^ ]*\).*/\1/' /host/proc/cmdline)"
