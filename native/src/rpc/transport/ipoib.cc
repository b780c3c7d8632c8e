#include "rpc/transport/ipoib.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <net/if_arp.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "rpc/transport/tcp.h"

namespace pando::rpc {
namespace {

/// 0 where there is no such file, or no number in it. `flags` is hexadecimal with its prefix.
unsigned long ReadNumber(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string text;
  if (!(file >> text)) return 0;
  return std::strtoul(text.c_str(), nullptr, 0);
}

std::string TextOf(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* const number =
      address->sa_family == AF_INET
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(address)->sin_addr)
          : static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
  return ::inet_ntop(address->sa_family, number, text.data(), text.size()) != nullptr ? text.data()
                                                                                      : "";
}

std::vector<std::string> AddressesOf(const std::string& name) {
  std::vector<std::string> addresses;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return addresses;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || name != one->ifa_name) continue;
    const int family = one->ifa_addr->sa_family;
    if (family == AF_INET || family == AF_INET6) addresses.push_back(TextOf(one->ifa_addr));
  }
  ::freeifaddrs(all);
  return addresses;
}

}  // namespace

std::vector<IpoibInterface> FindIpoibInterfaces(const std::string& sysfs) {
  std::vector<IpoibInterface> found;
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(sysfs) / "class/net";
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    if (ReadNumber(at->path() / "type") != ARPHRD_INFINIBAND) continue;
    const std::string name = at->path().filename().string();
    found.push_back({name, (ReadNumber(at->path() / "flags") & IFF_UP) != 0, AddressesOf(name)});
  }
  // The order of a folder is none.
  std::sort(found.begin(), found.end(), [](const IpoibInterface& a, const IpoibInterface& b) {
    return a.name < b.name;
  });
  return found;
}

Result<std::unique_ptr<TransportDriver>> OpenIpoibDriver(const std::string& sysfs) {
  for (const IpoibInterface& one : FindIpoibInterfaces(sysfs)) {
    if (!one.is_up || one.addresses.empty()) continue;
    return OpenIpoibDriverOn(one.name);
  }
  return {ErrorCode::kPeerUnreachable, "no InfiniBand interface is up and has an address"};
}

Result<std::unique_ptr<TransportDriver>> OpenIpoibDriverOn(const std::string& interface) {
  TcpOptions options;
  options.name = "ipoib";
  options.interface = interface;
  Result<std::unique_ptr<TcpDriver>> driver = TcpDriver::Create(std::move(options));
  if (!driver.ok()) return driver.error();
  return std::unique_ptr<TransportDriver>(std::move(driver).value());
}

}  // namespace pando::rpc
