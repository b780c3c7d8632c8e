// Which transports this build has.
#ifndef PANDO_RPC_DRIVERS_H_
#define PANDO_RPC_DRIVERS_H_

#include <memory>
#include <string>
#include <string_view>

#include "rpc/transport.h"

namespace pando::rpc {

/// `network`: the interface to which sockets are bound; ipoib only, which takes the first one of its kind
/// when it is empty. INVALID_ARGUMENT: there is no transport of this name. PEER_UNREACHABLE: it cannot
/// work here.
[[nodiscard]] Result<std::unique_ptr<TransportDriver>> MakeDriver(std::string_view kind,
                                                                  const std::string& network);

}  // namespace pando::rpc

#endif  // PANDO_RPC_DRIVERS_H_
