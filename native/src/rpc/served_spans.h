// What a listener tells its owner of requests that carry a trace id: written by the threads of sessions while the thread of
// JavaScript reads. Who reads too late loses the oldest; nobody ever waits.
#ifndef PANDO_RPC_SERVED_SPANS_H_
#define PANDO_RPC_SERVED_SPANS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "pando/peer_layout.h"
#include "pando/result.h"

namespace pando::rpc {

struct ServedSpans {
  ServedBoard* board = nullptr;  // nobody wants to know

  /// As a listener's page says. INVALID_ARGUMENT: outside the slab.
  [[nodiscard]] Status Map(const PeerPage& page, std::span<std::byte> slab) {
    const uint64_t offset = page.served;
    if (offset == 0) return {};
    if (offset % alignof(ServedBoard) != 0 || offset + sizeof(ServedBoard) > slab.size()) {
      return {ErrorCode::kInvalidArgument, "the page of served requests is outside the slab"};
    }
    board = reinterpret_cast<ServedBoard*>(slab.data() + offset);
    return {};
  }

  [[nodiscard]] bool Wants(const std::array<uint8_t, 16>& trace) const {
    return board != nullptr && trace != std::array<uint8_t, 16>{};
  }

  /// `served.sequence` is set here.
  void Tell(const ServedRequest& served) const {
    const uint32_t turn = std::atomic_ref(board->next).fetch_add(1, std::memory_order_acq_rel);
    ServedRequest& place = board->places[turn % ServedBoard::kPlaces];
    const std::atomic_ref<uint32_t> sequence(place.sequence);
    sequence.store(0, std::memory_order_relaxed);
    // Each word is released behind that zero, so that whoever meets one of them finds the sequence changed afterwards. No fence: TSan
    // knows none.
    using Word [[gnu::may_alias]] = uint64_t;
    static_assert(offsetof(ServedRequest, start_us) == sizeof(Word));
    const auto* from = reinterpret_cast<const Word*>(&served);
    auto* to = reinterpret_cast<Word*>(&place);
    std::atomic_ref(place.request).store(served.request, std::memory_order_release);
    for (size_t word = 1; word < sizeof(ServedRequest) / sizeof(Word); word++) {
      __atomic_store_n(&to[word], from[word], __ATOMIC_RELEASE);
    }
    sequence.store(turn + 1, std::memory_order_release);
  }
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_SERVED_SPANS_H_
