#!/bin/sh
# The guest on the host's root file system: makes the network and the RDMA devices, runs the jobs of the share in order,
# leaves each one's output and exit code there, and powers off. The only writable places are /run (memory) and the share.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 TMPDIR=/run/tmp HOME=/run/tmp
argument() { sed -n "s/.* pando\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
KERNEL=$(argument kernel)
LAB=$(argument lab)
SHARE=/run/share
export KERNEL LAB SHARE

mkdir -p /run/tmp "$SHARE" /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none share "$SHARE"
ulimit -l unlimited
cd "$(argument cwd)" || exit

{
  sh "$LAB/network.sh"
  echo "exit $?"
} >"$SHARE/network.log" 2>&1
if [ "$(tail -n 1 "$SHARE/network.log")" = 'exit 0' ]; then
  for job in "$SHARE"/*.job; do
    name=${job%.job}
    sh "$job" >"$name.log" 2>&1
    # Written whole: the host may look at any moment.
    echo $? >"$name.code.part"
    mv "$name.code.part" "$name.code"
  done
fi
dmesg >"$SHARE/dmesg.log"
: >"$SHARE/ended"
sync
echo o >/proc/sysrq-trigger
sleep 60
