// Blocks of at most 64 KiB of verified chunk bytes, evicted by S3-FIFO (Yang et al., SOSP 2023):
// new blocks pass through a small queue, only those that are read again reach the main one, so that
// one scan cannot flush what is hot.
#ifndef PANDO_STORE_READ_CACHE_H_
#define PANDO_STORE_READ_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "pando/chunk_id.h"

namespace pando {

class ReadCache {
 public:
  explicit ReadCache(uint64_t capacity_bytes);

  /// The block's bytes, or empty. `crc` is the chunk's: a chunk that was deleted and written anew
  /// with other bytes is another chunk. Valid until the next Insert.
  [[nodiscard]] std::span<const std::byte> Lookup(const ChunkId& id, uint32_t block, uint32_t crc);
  /// Blocks of larger chunks (`bulk`) are taken only when they were wanted before.
  void Insert(const ChunkId& id, uint32_t block, uint32_t crc, bool bulk,
              std::span<const std::byte> bytes);

  [[nodiscard]] bool enabled() const { return capacity_ > 0; }
  [[nodiscard]] uint64_t bytes() const { return small_bytes_ + main_bytes_; }

 private:
  struct Key {
    ChunkId id;
    uint32_t block = 0;
    uint32_t crc = 0;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      // The ghost takes its place from the low bits and its fingerprint from the high ones, so the block must reach both.
      uint64_t x = key.id.Hash() + (uint64_t{key.block} << 32U | key.crc) * 0x9E3779B97F4A7C15ULL;
      x = (x ^ (x >> 32U)) * 0xD6E8FEB86659FD93ULL;
      return x ^ (x >> 32U);
    }
  };
  struct Entry {
    Key key;
    uint32_t size = 0;
    uint8_t hits = 0;
    std::unique_ptr<std::byte[]> bytes;
  };
  static constexpr uint64_t kOverhead = 128;  // map node, entry, allocator: estimated

  void Evict();
  void EvictSmall();
  void EvictMain();
  [[nodiscard]] bool InGhost(size_t hash) const;

  uint64_t capacity_;
  uint64_t small_bytes_ = 0;
  uint64_t main_bytes_ = 0;
  std::unordered_map<Key, std::unique_ptr<Entry>, KeyHash> entries_;
  std::deque<Entry*> small_;
  std::deque<Entry*> main_;
  std::vector<uint32_t> ghost_;  // direct-mapped fingerprints of what left the small queue
};

}  // namespace pando

#endif  // PANDO_STORE_READ_CACHE_H_
