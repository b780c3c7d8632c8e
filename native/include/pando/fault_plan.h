// What the `faulty` back end does wrong, and when. For tests of this library and of everything
// above it.
#ifndef PANDO_FAULT_PLAN_H_
#define PANDO_FAULT_PLAN_H_

#include <cstdint>
#include <vector>

namespace pando {

enum class FaultKind : uint8_t {
  kIoError,  // the operation fails with EIO and has no effect
  kNoSpace,  // the operation fails with ENOSPC and has no effect
  kShort,    // the operation reports half of its bytes
  kTorn,  // a write reports success, but only a prefix of its 512-byte sectors reaches the medium
  kLost,  // a write reports success and never reaches the medium
  kMisdirect,  // a write reports success and lands one page (4 KiB) further on
  kBitFlip,    // one bit of the data is flipped (in a write: on the medium; in a read: on the way)
};

enum class FaultOp : uint8_t { kRead, kWrite, kFlush, kAllocate };

struct Fault {
  FaultKind kind = FaultKind::kIoError;
  FaultOp op = FaultOp::kWrite;
  uint64_t after = 0;  // let this many operations of the kind pass first, counted from opening
  uint64_t count = 1;  // then strike this many times
};

struct FaultPlan {
  uint64_t seed = 1;  // chooses sectors and bits
  std::vector<Fault> faults;
};

}  // namespace pando

#endif  // PANDO_FAULT_PLAN_H_
