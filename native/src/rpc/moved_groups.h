// Since which epoch of the cluster map the chunks of each placement group are where they are now. Written by the
// thread of JavaScript while sessions read it.
#ifndef PANDO_RPC_MOVED_GROUPS_H_
#define PANDO_RPC_MOVED_GROUPS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "pando/chunk_id.h"
#include "pando/peer_layout.h"
#include "pando/result.h"

namespace pando::rpc {

struct MovedGroups {
  /// Each kMovedPerPage epochs; nullptr: nothing has ever moved.
  std::array<uint32_t*, kMovedPages> pages{};

  /// As a listener's page says. INVALID_ARGUMENT: outside the slab.
  [[nodiscard]] Status Map(const PeerPage& page, std::span<std::byte> slab) {
    if (page.moved[0] == 0) return {};
    for (size_t i = 0; i < pages.size(); ++i) {
      const uint64_t offset = page.moved[i];
      if (offset == 0 || offset % alignof(uint32_t) != 0 ||
          offset + kMovedPerPage * sizeof(uint32_t) > slab.size()) {
        return {ErrorCode::kInvalidArgument, "epochs of groups outside the slab"};
      }
      pages[i] = reinterpret_cast<uint32_t*>(slab.data() + offset);
    }
    return {};
  }
  /// Whether who acts on the map of `epoch` may look for the chunk in the wrong place. 0: acts on none.
  [[nodiscard]] bool IsStale(const ChunkId& chunk, uint32_t epoch) const {
    if (epoch == 0 || pages[0] == nullptr) return false;
    const uint32_t group =
        (uint32_t{chunk.bytes[0]} << 8U | uint32_t{chunk.bytes[1]}) % kPlacementGroups;
    uint32_t& moved = pages[group / kMovedPerPage][group % kMovedPerPage];
    return epoch < std::atomic_ref<uint32_t>(moved).load(std::memory_order_relaxed);
  }
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_MOVED_GROUPS_H_
