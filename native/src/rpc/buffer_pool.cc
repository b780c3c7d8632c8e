#include "rpc/buffer_pool.h"

#include <algorithm>
#include <bit>

#include "pando/result.h"

namespace pando::rpc {
namespace {

uint32_t OrderFor(uint32_t bytes) {
  const auto pages = static_cast<uint32_t>(RoundUp(bytes, kPageBytes) / kPageBytes);
  return static_cast<uint32_t>(std::bit_width(pages - 1));
}

}  // namespace

BufferPool::BufferPool(std::span<std::byte> region) : region_(region) {
  pages_ = static_cast<uint32_t>(region.size() / kPageBytes / kBlockPages * kBlockPages);
  PANDO_ASSERT(pages_ > 0);
  heads_.fill(kNone);
  next_.assign(pages_, kNone);
  previous_.assign(pages_, kNone);
  state_.assign(pages_, kInside);
  // Linked from the end, so that the lowest block is first.
  for (uint32_t page = pages_; page > 0; page -= kBlockPages) {
    Link(page - kBlockPages, kOrders - 1);
  }
}

void BufferPool::Link(uint32_t page, uint32_t order) {
  state_[page] = static_cast<uint8_t>(order);
  previous_[page] = kNone;
  next_[page] = heads_[order];
  if (heads_[order] != kNone) previous_[heads_[order]] = page;
  heads_[order] = page;
}

void BufferPool::Unlink(uint32_t page, uint32_t order) {
  if (previous_[page] != kNone) {
    next_[previous_[page]] = next_[page];
  } else {
    heads_[order] = next_[page];
  }
  if (next_[page] != kNone) previous_[next_[page]] = previous_[page];
  state_[page] = kInside;
}

std::byte* BufferPool::Carve(uint32_t bytes) {
  PANDO_ASSERT(bytes > 0 && bytes <= kMaxChunkBytes);
  const uint32_t order = OrderFor(bytes);
  uint32_t from = order;
  while (from < kOrders && heads_[from] == kNone) ++from;
  if (from == kOrders) return nullptr;
  const uint32_t page = heads_[from];
  Unlink(page, from);
  while (from > order) {
    --from;
    Link(page + (1U << from), from);
  }
  state_[page] = static_cast<uint8_t>(kTaken | order);
  used_bytes_ += kPageBytes << order;
  return region_.data() + size_t{page} * kPageBytes;
}

std::byte* BufferPool::Take(uint32_t bytes) { return first_ != nullptr ? nullptr : Carve(bytes); }

void BufferPool::Give(std::byte* memory) {
  auto page = static_cast<uint32_t>((memory - region_.data()) / static_cast<ptrdiff_t>(kPageBytes));
  PANDO_ASSERT(page < pages_ && state_[page] != kInside && (state_[page] & kTaken) != 0);
  uint32_t order = state_[page] & ~kTaken;
  used_bytes_ -= kPageBytes << order;
  while (order + 1 < kOrders) {
    const uint32_t buddy = page ^ (1U << order);
    if (state_[buddy] != order) break;
    Unlink(buddy, order);
    state_[page] = kInside;
    page = std::min(page, buddy);
    ++order;
  }
  Link(page, order);
}

void BufferPool::Wait(BufferWaiter* waiter) {
  PANDO_ASSERT(!waiter->waiting);
  waiter->waiting = true;
  waiter->next = nullptr;
  (last_ != nullptr ? last_->next : first_) = waiter;
  last_ = waiter;
}

void BufferPool::StopWaiting(BufferWaiter* waiter) {
  if (!waiter->waiting) return;
  waiter->waiting = false;
  BufferWaiter* before = nullptr;
  for (BufferWaiter* at = first_; at != waiter; at = at->next) before = at;
  (before != nullptr ? before->next : first_) = waiter->next;
  if (last_ == waiter) last_ = before;
}

size_t BufferPool::Serve() {
  size_t count = 0;
  while (first_ != nullptr) {
    std::byte* memory = Carve(first_->bytes);
    if (memory == nullptr) break;
    BufferWaiter* waiter = first_;
    StopWaiting(waiter);
    waiter->ready(waiter, memory);
    ++count;
  }
  return count;
}

}  // namespace pando::rpc
