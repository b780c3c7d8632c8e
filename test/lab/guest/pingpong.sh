#!/bin/sh
# The smoke test of the RDMA stack: 500 round trips of 16 KiB, each end on its own device, contents checked. The counters of
# the network devices show that it went over the pair.
set -eu
sent() { cat "/sys/class/net/peer$1/statistics/tx_bytes"; }
before0=$(sent 0) before1=$(sent 1)
timeout 60 ibv_rc_pingpong -d rxe1 -g 1 -s 16384 -n 500 -c &
server=$!
for attempt in $(seq 50); do
  # Port 18515 is listened on: 4853 in hexadecimal, state 0A.
  grep -q ':4853 .* 0A ' /proc/net/tcp /proc/net/tcp6 && break
  sleep 0.1
done
timeout 60 ibv_rc_pingpong -d rxe0 -g 1 -s 16384 -n 500 -c 10.77.0.2
wait "$server"
for crossed in $(($(sent 0) - before0)) $(($(sent 1) - before1)); do
  echo "$crossed bytes crossed the pair"
  [ "$crossed" -gt $((500 * 16384)) ]
done
