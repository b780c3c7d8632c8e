// RDMA between nodes: reliable connections (InfiniBand, RoCE, Soft-RoCE) made with librdmacm.
//
// Headers and payloads of up to 4 KiB travel as messages. A longer payload stays where it is: its
// sender says where, and the RECEIVER fetches it with an RDMA READ into memory of its own choice, then
// tells the sender that it has it. Both for puts and for gets; so no memory is ever writable from
// outside. A write that comes late, into memory that has another owner by now, does not have to be
// fenced: there are no one-sided writes (research B15). It costs a get half a round trip more
// than a WRITE by the server would. Our own READs that are under way are over when the queue
// pair is destroyed, which happens before OnClosed.
//
// Memory is readable by a peer only once it was sent a long payload, which sessions do for proven
// peers only: until then the queue pair refuses every one-sided request.
#ifndef PANDO_RPC_TRANSPORT_RDMA_H_
#define PANDO_RPC_TRANSPORT_RDMA_H_

#include <memory>

#include "rpc/transport.h"

namespace pando::rpc {

/// Addresses are `a.b.c.d:port` and `[v6]:port`; the routing tables choose the device. Devices that come
/// and go while it runs are taken and let go of. INVALID_ARGUMENT: built without libibverbs and
/// librdmacm. PEER_UNREACHABLE: the kernel has no RDMA (rdma_ucm).
[[nodiscard]] Result<std::unique_ptr<TransportDriver>> OpenRdmaDriver();

/// Built with libibverbs and librdmacm.
[[nodiscard]] bool HasRdma();

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_RDMA_H_
