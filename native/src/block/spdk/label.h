// What a bdev carries in front of the store: whose it is, and how much of it the store has taken.
// The bytes are told in FORMAT.md.
#ifndef PANDO_BLOCK_SPDK_LABEL_H_
#define PANDO_BLOCK_SPDK_LABEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

#include "block/aligned_buffer.h"

namespace pando {

/// The store begins here.
inline constexpr uint64_t kLabelAreaBytes = 1 << 20;
inline constexpr uint64_t kLabelCopies = 2;
inline constexpr uint64_t kLabelSpacing = 512 << 10;

struct BdevLabel {
  std::array<uint8_t, 16> uuid{};
  uint64_t sequence =
      0;  // one more with each label written; the valid copy with the highest counts
  uint64_t grown_bytes = 0;  // the store's; what lies behind was never used by it
};

/// Fills the page. The copy to write it to is LabelOffset(sequence).
void EncodeLabel(const BdevLabel& label, std::span<std::byte> page);
/// Nothing unless the page is a whole label of this version.
[[nodiscard]] std::optional<BdevLabel> DecodeLabel(std::span<const std::byte> page);

/// Copies take turns, so that a torn write leaves the one before.
constexpr uint64_t LabelOffset(uint64_t sequence) {
  return sequence % kLabelCopies * kLabelSpacing;
}

}  // namespace pando

#endif  // PANDO_BLOCK_SPDK_LABEL_H_
