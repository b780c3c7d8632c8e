#ifndef PANDO_RPC_TRANSPORT_RDMA_DEVICE_H_
#define PANDO_RPC_TRANSPORT_RDMA_DEVICE_H_

#include <infiniband/verbs.h>

#include <memory>
#include <span>
#include <vector>

#include "pando/result.h"

namespace pando::rpc {

/// A device as one reactor uses it: a protection domain with the announced memory, and the channel that
/// tells of completions. Lives as long as something uses it, so that a device that is removed is let
/// go of.
class RdmaDevice {
 public:
  [[nodiscard]] static Result<std::shared_ptr<RdmaDevice>> Open(
      ibv_context* verbs, std::span<const std::span<std::byte>> regions);
  RdmaDevice(const RdmaDevice&) = delete;
  RdmaDevice& operator=(const RdmaDevice&) = delete;
  /// REQUIRES: its queues are destroyed.
  ~RdmaDevice();

  [[nodiscard]] Status Register(std::span<std::byte> region);
  void Unregister(std::span<std::byte> region);
  /// Null: this memory was not announced.
  [[nodiscard]] const ibv_mr* RegistrationOf(std::span<const std::byte> memory) const;

  [[nodiscard]] ibv_context* verbs() const { return verbs_; }
  [[nodiscard]] ibv_pd* domain() const { return domain_; }
  [[nodiscard]] ibv_comp_channel* channel() const { return channel_; }
  /// READs that one queue pair may have under way in either direction.
  [[nodiscard]] uint8_t reads() const { return reads_; }

 private:
  explicit RdmaDevice(ibv_context* verbs) : verbs_(verbs) {}

  ibv_context* verbs_;
  ibv_pd* domain_ = nullptr;
  ibv_comp_channel* channel_ = nullptr;
  uint8_t reads_ = 0;
  struct Registration {
    std::span<std::byte> region;
    ibv_mr* mr;
  };
  std::vector<Registration> registrations_;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_RDMA_DEVICE_H_
