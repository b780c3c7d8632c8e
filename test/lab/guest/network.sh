#!/bin/sh
# Two peers in one guest: the ends of a veth pair, each with an address and a Soft-RoCE device of its own. Soft-RoCE
# receives in the first network namespace only (Linux 6.1), so both ends live there, and rules make packets between the two
# addresses cross the pair instead of taking the short cut through the loopback device.
set -eux
modprobe() { command modprobe -d "$KERNEL" "$@"; }

# Checksums of the wire protocol; a kernel that has them built in answers that they are there.
modprobe veth
modprobe crc32_generic
modprobe crc32c_generic
modprobe rdma_rxe
modprobe rdma_ucm

ip link set lo up
ip link add peer0 type veth peer name peer1
for end in 0 1; do
  other=$((1 - end))
  busybox sysctl -q -w "net.ipv4.conf.peer$end.accept_local=1" "net.ipv4.conf.peer$end.rp_filter=0" \
    "net.ipv4.conf.peer$end.arp_ignore=1" "net.ipv6.conf.peer$end.disable_ipv6=1"
  ip address add "10.77.0.$((end + 1))/24" dev "peer$end" noprefixroute
  ip link set "peer$end" mtu 9000 up
  # What comes in on this end is for this end's address; what goes to the other's address leaves by this end.
  ip rule add pref 10 iif "peer$end" to "10.77.0.$((end + 1))" lookup local
  ip rule add pref 20 to "10.77.0.$((other + 1))" lookup "10$end"
  ip route add "10.77.0.$((other + 1))/32" dev "peer$end" src "10.77.0.$((end + 1))" table "10$end"
done
ip rule add pref 1000 lookup local
ip rule del pref 0
busybox sysctl -q -w net.ipv4.conf.all.rp_filter=0

for end in 0 1; do rdma link add "rxe$end" type rxe netdev "peer$end"; done
rdma link show
busybox ping -c 1 -W 5 10.77.0.2
