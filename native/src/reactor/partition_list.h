// Lists of the partitions of a store, by their uuids, in its data directory: `bdevs.pando` says which bdevs belong to it, and
// `making.pando` which files a first start is making.
#ifndef PANDO_REACTOR_PARTITION_LIST_H_
#define PANDO_REACTOR_PARTITION_LIST_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pando/result.h"

namespace pando {

inline constexpr std::string_view kBdevList = "bdevs";
inline constexpr std::string_view kMakingList = "making";

struct PartitionList {
  /// False while the stores are being made: nothing was ever acknowledged there.
  bool made = false;
  std::vector<std::array<uint8_t, 16>> uuids;  // of the partitions, in order
};

/// Nothing when there is no list. Error: CORRUPT_CHUNK (it cannot be read as one), IO_ERROR.
[[nodiscard]] Result<std::optional<PartitionList>> ReadPartitionList(const std::string& directory,
                                                                     std::string_view name);
/// Durable, and whole or not at all.
[[nodiscard]] Status WritePartitionList(const std::string& directory, std::string_view name,
                                        const PartitionList& list);
/// Durable, too.
[[nodiscard]] Status ForgetPartitionList(const std::string& directory, std::string_view name);
[[nodiscard]] bool HasPartitionList(const std::string& directory, std::string_view name);

/// What was made, renamed or removed in it stays so.
[[nodiscard]] Status SyncDirectory(const std::string& path);

}  // namespace pando

#endif  // PANDO_REACTOR_PARTITION_LIST_H_
