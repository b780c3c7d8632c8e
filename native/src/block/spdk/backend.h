// The seam between the data plane and the SPDK back end, which is a shared object of its own:
// whoever does not configure it neither loads SPDK's sixty libraries nor needs them installed.
#ifndef PANDO_BLOCK_SPDK_BACKEND_H_
#define PANDO_BLOCK_SPDK_BACKEND_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "block/block_device.h"
#include "pando/bdev.h"

namespace pando {

/// One more with each change to what is in this header, block_device.h or bdev.h.
inline constexpr uint32_t kSpdkSeamVersion = 1;
inline constexpr const char* kSpdkEntryPoint = "pando_spdk_backend";

/// What SPDK is started with, once in the life of a process; a later opening that needs more is
/// refused.
struct SpdkProcessOptions {
  uint64_t memory_bytes = 0;       // for SPDK's own pools; malloc bdevs come on top
  std::vector<BdevOptions> bdevs;  // all that will be opened
};

struct SpdkDeviceOptions {
  BdevOptions bdev;
  uint32_t partition = 0;
  std::array<uint8_t, 16> uuid{};  // of the label
  /// A blank device gets the label; otherwise only one that has it already is opened.
  bool may_label = false;
  LogSink log;
};

class SpdkBackend {
 public:
  virtual ~SpdkBackend() = default;
  [[nodiscard]] virtual std::string_view version() const = 0;
  /// Any thread but a JavaScript one: SPDK's environment touches the affinity of its caller.
  [[nodiscard]] virtual Status Start(const SpdkProcessOptions& options, LogSink log) = 0;
  /// On the thread that will poll the device. REQUIRES: Start succeeded.
  [[nodiscard]] virtual Result<std::unique_ptr<BlockDevice>> Open(SpdkDeviceOptions options) = 0;
};

/// Nullptr when there is none; ProbeSpdk tells why.
[[nodiscard]] SpdkBackend* LoadSpdkBackend();

}  // namespace pando

#endif  // PANDO_BLOCK_SPDK_BACKEND_H_
