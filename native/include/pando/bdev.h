// Block devices of SPDK (spdk.io) under the chunk store: which ones, and whether this build can.
#ifndef PANDO_BDEV_H_
#define PANDO_BDEV_H_

#include <cstdint>
#include <string>

#include "pando/result.h"

namespace pando {

enum class BdevKind : uint8_t {
  kAio,      // a file or block device of the kernel, by libaio; target: path
  kUring,    // the same by io_uring; SPDK cannot flush it, so only devices without a volatile cache
  kMalloc,   // memory of this process: forgets everything when it ends
  kNvme,     // target: PCI address, for example 0000:01:00.0
  kNvmeTcp,  // NVMe over Fabrics; target: host:port
  kNvmeRdma,
};

struct BdevOptions {
  BdevKind kind = BdevKind::kAio;
  std::string target;
  std::string nqn;          // of the subsystem (kNvmeTcp, kNvmeRdma)
  uint32_t name_space = 1;  // of an NVMe controller
  uint64_t size_bytes = 0;  // kMalloc
  /// Acknowledged writes may be lost with the process or the power. Said by the operator; without
  /// it a device that cannot promise more is refused.
  bool may_lose = false;
  /// Payloads go through memory of SPDK's own, as kNvme and kNvmeRdma always do. For tests.
  bool bounce = false;
};

struct SpdkState {
  std::string version;  // of the SPDK that was loaded; empty: there is none
  std::string reason;   // why there is none, and what to do
};

/// Loads the back end (once, never unloaded) and asks it. Thread safe. Starts nothing.
[[nodiscard]] PANDO_EXPORT const SpdkState& ProbeSpdk();

}  // namespace pando

#endif  // PANDO_BDEV_H_
