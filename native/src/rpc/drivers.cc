#include "rpc/drivers.h"

#include <string>

#include "rpc/transport/ipoib.h"
#include "rpc/transport/rdma.h"
#include "rpc/transport/shm_driver.h"
#include "rpc/transport/tcp.h"

namespace pando::rpc {

Result<std::unique_ptr<TransportDriver>> MakeDriver(std::string_view kind,
                                                    const std::string& network) {
  if (kind == "tcp") {
    auto driver = TcpDriver::Create();
    if (!driver.ok()) return driver.error();
    return std::unique_ptr<TransportDriver>(std::move(driver).value());
  }
  if (kind == "shm") {
    auto driver = ShmDriver::Open();
    if (!driver.ok()) return driver.error();
    return std::unique_ptr<TransportDriver>(std::move(driver).value());
  }
  if (kind == "rdma") return OpenRdmaDriver();
  if (kind == "ipoib") return network.empty() ? OpenIpoibDriver() : OpenIpoibDriverOn(network);
  return Error{ErrorCode::kInvalidArgument, "there is no transport " + std::string(kind)};
}

}  // namespace pando::rpc
