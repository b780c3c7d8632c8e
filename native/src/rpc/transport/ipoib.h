// TCP over InfiniBand: the tcp transport, bound to an interface of that kind.
#ifndef PANDO_RPC_TRANSPORT_IPOIB_H_
#define PANDO_RPC_TRANSPORT_IPOIB_H_

#include <memory>
#include <string>
#include <vector>

#include "rpc/transport.h"

namespace pando::rpc {

struct IpoibInterface {
  std::string name;
  bool is_up = false;
  /// Numeric, without scope.
  std::vector<std::string> addresses;
};

/// Interfaces whose link layer is InfiniBand, by what `<sysfs>/class/net` says; their addresses by what
/// the kernel says.
[[nodiscard]] std::vector<IpoibInterface> FindIpoibInterfaces(const std::string& sysfs = "/sys");

/// On the first interface that is up and has an address. PEER_UNREACHABLE: there is none.
[[nodiscard]] Result<std::unique_ptr<TransportDriver>> OpenIpoibDriver(
    const std::string& sysfs = "/sys");

/// On an interface that somebody else has found.
[[nodiscard]] Result<std::unique_ptr<TransportDriver>> OpenIpoibDriverOn(
    const std::string& interface);

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_IPOIB_H_
