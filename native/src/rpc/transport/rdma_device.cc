#include "rpc/transport/rdma_device.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "block/file_handle.h"

namespace pando::rpc {
namespace {

constexpr int kMostReads = 16;

}  // namespace

Result<std::shared_ptr<RdmaDevice>> RdmaDevice::Open(
    ibv_context* verbs, std::span<const std::span<std::byte>> regions) {
  std::shared_ptr<RdmaDevice> device(new RdmaDevice(verbs));
  ibv_device_attr attributes{};
  if (::ibv_query_device(verbs, &attributes) != 0) return SystemError("ibv_query_device", errno);
  device->reads_ = static_cast<uint8_t>(std::clamp(
      std::min(attributes.max_qp_rd_atom, attributes.max_qp_init_rd_atom), 0, kMostReads));
  if (device->reads_ == 0) {
    return {ErrorCode::kPeerUnreachable, "the device cannot do RDMA READ"};
  }
  device->domain_ = ::ibv_alloc_pd(verbs);
  if (device->domain_ == nullptr) return SystemError("ibv_alloc_pd", errno);
  device->channel_ = ::ibv_create_comp_channel(verbs);
  if (device->channel_ == nullptr || ::fcntl(device->channel_->fd, F_SETFL, O_NONBLOCK) != 0) {
    return SystemError("ibv_create_comp_channel", errno);
  }
  for (const std::span<std::byte> region : regions) {
    const Status registered = device->Register(region);
    if (!registered.ok()) return registered.error();
  }
  return device;
}

RdmaDevice::~RdmaDevice() {
  for (const Registration& one : registrations_) ::ibv_dereg_mr(one.mr);
  if (channel_ != nullptr) ::ibv_destroy_comp_channel(channel_);
  if (domain_ != nullptr) ::ibv_dealloc_pd(domain_);
}

Status RdmaDevice::Register(std::span<std::byte> region) {
  // Never IBV_ACCESS_REMOTE_WRITE: that nobody can write here is what makes late writes harmless.
  ibv_mr* const mr = ::ibv_reg_mr(domain_, region.data(), region.size(),
                                  IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
  if (mr == nullptr) {
    const int reason = errno;
    return {reason == ENOMEM ? ErrorCode::kInsufficientStorage : ErrorCode::kPeerUnreachable,
            std::string("memory cannot be registered with the RDMA device (limit of locked memory, "
                        "ulimit -l?): ") +
                std::strerror(reason)};
  }
  registrations_.push_back({region, mr});
  return {};
}

void RdmaDevice::Unregister(std::span<std::byte> region) {
  std::erase_if(registrations_, [&](const Registration& one) {
    return one.region.data() == region.data() && ::ibv_dereg_mr(one.mr) == 0;
  });
}

const ibv_mr* RdmaDevice::RegistrationOf(std::span<const std::byte> memory) const {
  for (const Registration& one : registrations_) {
    if (memory.data() >= one.region.data() &&
        memory.data() + memory.size() <= one.region.data() + one.region.size()) {
      return one.mr;
    }
  }
  return nullptr;
}

}  // namespace pando::rpc
