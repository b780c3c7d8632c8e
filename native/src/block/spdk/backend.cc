#include "block/spdk/backend.h"

#include <spdk/version.h>

#include "block/spdk/environment.h"
#include "block/spdk/spdk_device.h"

namespace pando {
namespace {

class LinkedBackend final : public SpdkBackend {
 public:
  [[nodiscard]] std::string_view version() const override { return SPDK_VERSION_STRING; }

  [[nodiscard]] Status Start(const SpdkProcessOptions& options, LogSink log) override {
    for (const BdevOptions& bdev : options.bdevs) {
      // Nobody has run these on a device so far, and a store is no place for a first time.
      if (bdev.kind == BdevKind::kNvmeRdma) {
        return Error{ErrorCode::kInvalidArgument,
                     "bdevs of kind nvme-rdma were not tried on a device yet and are refused "
                     "until they were"};
      }
    }
    return SpdkEnvironment::Get().Start(options, log);
  }

  [[nodiscard]] Result<std::unique_ptr<BlockDevice>> Open(SpdkDeviceOptions options) override {
    auto device = std::make_unique<SpdkDevice>(std::move(options));
    const Status status = device->Open();
    if (!status.ok()) return status.error();
    return std::unique_ptr<BlockDevice>(std::move(device));
  }
};

}  // namespace
}  // namespace pando

extern "C" PANDO_EXPORT pando::SpdkBackend* pando_spdk_backend(uint32_t seam_version) {
  static pando::LinkedBackend backend;
  return seam_version == pando::kSpdkSeamVersion ? &backend : nullptr;
}
