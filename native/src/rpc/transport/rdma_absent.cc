#include "rpc/transport/rdma.h"

namespace pando::rpc {

Result<std::unique_ptr<TransportDriver>> OpenRdmaDriver() {
  return {ErrorCode::kInvalidArgument,
          "built without RDMA: install libibverbs-dev and librdmacm-dev and build again"};
}

bool HasRdma() { return false; }

}  // namespace pando::rpc
