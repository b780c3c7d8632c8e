// Systematic Reed-Solomon codes over GF(2^8): of k data fragments m parity fragments are computed, and any k of the k + m give
// all the others back. Which bytes that are is fixed: fragments are on disks and are made by machines of all kinds.
#ifndef PANDO_ERASURE_H_
#define PANDO_ERASURE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "pando/result.h"

namespace pando {

inline constexpr uint32_t kMostDataFragments = 16;
inline constexpr uint32_t kMostParityFragments = 8;

/// The field has the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11D). Parity fragment j (from 0) is the sum over i of data fragment i
/// times the inverse of ((k + j) xor i): a Cauchy matrix, every square part of which can be inverted.
class PANDO_EXPORT ErasureCode {
 public:
  /// A fragment that is there. One shorter than the targets goes on with zeros, so that the last fragments of a short chunk
  /// need not be stored; an empty one is all zeros.
  struct Source {
    uint32_t fragment = 0;
    std::span<const std::byte> bytes;
  };
  struct Target {
    uint32_t fragment = 0;
    std::span<std::byte> bytes;
  };
  enum class Kernel : uint8_t { kBest, kIsal, kAvx2, kSsse3, kScalar };

  /// INVALID_ARGUMENT: k is 1 to 16 and m 1 to 8.
  static Result<ErasureCode> Create(uint32_t data, uint32_t parity);

  /// Computes the targets from k different sources. All targets are of one length, no source is longer. Nothing may overlap.
  /// INVALID_ARGUMENT otherwise, and nothing is written then. `kernel`: for tests and benchmarks; REQUIRES: Has(kernel).
  [[nodiscard]] Status Compute(std::span<const Source> sources, std::span<const Target> targets,
                               Kernel kernel = Kernel::kBest) const;

  [[nodiscard]] static bool Has(Kernel kernel);

 private:
  ErasureCode(uint32_t data, uint32_t parity) : data_(data), parity_(parity) {}

  [[nodiscard]] Status Check(std::span<const Source> sources, std::span<const Target> targets) const;

  uint32_t data_;
  uint32_t parity_;
};

}  // namespace pando

#endif  // PANDO_ERASURE_H_
