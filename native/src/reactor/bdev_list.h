// `bdevs.pando` in the data directory: which bdevs belong to it, by the uuids of their labels.
#ifndef PANDO_REACTOR_BDEV_LIST_H_
#define PANDO_REACTOR_BDEV_LIST_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pando/result.h"

namespace pando {

struct BdevList {
  /// False while their stores are being made: nothing was ever acknowledged there.
  bool made = false;
  std::vector<std::array<uint8_t, 16>> uuids;  // of the partitions, in order
};

/// Nothing when there is no list. Error: CORRUPT_CHUNK (it cannot be read as one), IO_ERROR.
[[nodiscard]] Result<std::optional<BdevList>> ReadBdevList(const std::string& directory);
/// Durable, and whole or not at all.
[[nodiscard]] Status WriteBdevList(const std::string& directory, const BdevList& list);
[[nodiscard]] bool HasBdevList(const std::string& directory);

}  // namespace pando

#endif  // PANDO_REACTOR_BDEV_LIST_H_
