#include "store/read_cache.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace pando {

ReadCache::ReadCache(uint64_t capacity_bytes)
    : capacity_(capacity_bytes),
      ghost_(std::bit_ceil(std::clamp<uint64_t>(capacity_bytes / 4096, 64, 1U << 20U))) {}

std::span<const std::byte> ReadCache::Lookup(const ChunkId& id, uint32_t block, uint32_t crc) {
  if (capacity_ == 0) return {};
  const auto found = entries_.find(Key{id, block, crc});
  if (found == entries_.end()) return {};
  Entry& entry = *found->second;
  if (entry.hits < 3) ++entry.hits;
  return {entry.bytes.get(), entry.size};
}

bool ReadCache::InGhost(size_t hash) const {
  return ghost_[hash & (ghost_.size() - 1)] == static_cast<uint32_t>(hash >> 32U);
}

void ReadCache::Insert(const ChunkId& id, uint32_t block, uint32_t crc, bool bulk,
                       std::span<const std::byte> bytes) {
  if (capacity_ == 0 || bytes.size() + kOverhead > capacity_ / 4) return;
  const Key key{id, block, crc};
  const size_t hash = KeyHash{}(key);
  const bool wanted_before = InGhost(hash);
  if (bulk && !wanted_before) {
    ghost_[hash & (ghost_.size() - 1)] = static_cast<uint32_t>(hash >> 32U);
    return;
  }
  auto [position, fresh] = entries_.try_emplace(key);
  if (!fresh) return;
  auto entry = std::make_unique<Entry>();
  entry->key = key;
  entry->size = static_cast<uint32_t>(bytes.size());
  entry->bytes = std::make_unique_for_overwrite<std::byte[]>(bytes.size());
  std::memcpy(entry->bytes.get(), bytes.data(), bytes.size());
  const uint64_t cost = bytes.size() + kOverhead;
  if (wanted_before) {
    main_.push_back(entry.get());
    main_bytes_ += cost;
  } else {
    small_.push_back(entry.get());
    small_bytes_ += cost;
  }
  position->second = std::move(entry);
  while (small_bytes_ + main_bytes_ > capacity_) Evict();
}

void ReadCache::Evict() {
  if (small_bytes_ > capacity_ / 10 || main_.empty()) {
    EvictSmall();
  } else {
    EvictMain();
  }
}

void ReadCache::EvictSmall() {
  Entry* entry = small_.front();
  small_.pop_front();
  const uint64_t cost = entry->size + kOverhead;
  small_bytes_ -= cost;
  if (entry->hits > 0) {
    entry->hits = 0;
    main_.push_back(entry);
    main_bytes_ += cost;
    return;
  }
  const size_t hash = KeyHash{}(entry->key);
  ghost_[hash & (ghost_.size() - 1)] = static_cast<uint32_t>(hash >> 32U);
  entries_.erase(Key(entry->key));
}

void ReadCache::EvictMain() {
  Entry* entry = main_.front();
  main_.pop_front();
  if (entry->hits > 0) {
    --entry->hits;
    main_.push_back(entry);
    return;
  }
  main_bytes_ -= entry->size + kOverhead;
  entries_.erase(Key(entry->key));
}

}  // namespace pando
