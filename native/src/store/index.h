// Where every live chunk is: 32 bytes an entry, in open-addressing tables filled to 80-90 %.
//
// The id space is cut into ranges, each a small Robin Hood table ("leaf") of at most kLeafEntries.
// A leaf grows by an eighth and is split at its median when full, so that memory stays within 40
// bytes a chunk, no rehash touches more than a leaf, and a listing in id order sorts one leaf at a
// time.
#ifndef PANDO_STORE_INDEX_H_
#define PANDO_STORE_INDEX_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "pando/chunk_id.h"
#include "store/format.h"

namespace pando {

struct IndexEntry {
  ChunkId id;
  uint32_t crc = 0;
  uint32_t length = 0;           // 1..4 MiB
  uint64_t address = 0;          // of the payload, in 64-byte units from the start of the device
  uint32_t header_distance = 0;  // pages from the batch header to the payload's page, at most 127
  bool damaged = false;          // a check has failed; reads keep failing until it is written again
};

[[nodiscard]] ChunkRecord PackEntry(const IndexEntry& entry);
[[nodiscard]] IndexEntry UnpackEntry(const ChunkRecord& record);

class Index {
 public:
  Index();

  [[nodiscard]] std::optional<IndexEntry> Find(const ChunkId& id) const;
  /// Inserts or replaces; returns what was there.
  std::optional<IndexEntry> Put(const IndexEntry& entry);
  /// Removes; returns what was there.
  std::optional<IndexEntry> Erase(const ChunkId& id);

  /// Up to `limit` entries with id >= from, ascending. Costs one or a few leaf sorts a call.
  void List(const ChunkId& from, size_t limit, std::vector<IndexEntry>& out) const;

  /// For walking everything while it changes: all entries with id >= cursor of the range that holds
  /// it, in no order. Returns where the next range starts, nothing after the last one. Every id
  /// that stays in the index during the walk is seen exactly once.
  std::optional<ChunkId> ReadRange(const ChunkId& cursor, std::vector<IndexEntry>& out) const;

  /// Calls visit(IndexEntry) for every entry, in no order. `visit` must not change the index.
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    for (const auto& leaf : leaves_) {
      for (uint32_t i = 0; i < leaf->capacity; ++i) {
        if (leaf->slots[i].packed != 0) visit(UnpackEntry(leaf->slots[i]));
      }
    }
  }

  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] uint64_t memory_bytes() const { return memory_bytes_; }

 private:
  static constexpr uint32_t kLeafEntries = 4096;
  static constexpr uint32_t kSmallest = 16;

  // packed == 0 marks an empty slot: a length is never 0. The distance of a slot from home is kept
  // in the address's spare high bits.
  struct Leaf {
    ChunkId lowest;
    uint32_t size = 0;
    uint32_t capacity = 0;
    std::unique_ptr<ChunkRecord[]> slots;
  };

  [[nodiscard]] size_t LeafFor(const ChunkId& id) const;
  [[nodiscard]] static uint32_t Home(const Leaf& leaf, const ChunkId& id);
  [[nodiscard]] static uint32_t Search(const Leaf& leaf, const ChunkId& id);
  static void Insert(Leaf& leaf, ChunkRecord record);
  void Resize(Leaf& leaf, uint32_t capacity);
  void Split(size_t index);

  std::vector<std::unique_ptr<Leaf>>
      leaves_;                   // ascending by `lowest`; the first holds the lowest id
  std::vector<ChunkId> bounds_;  // leaves_[i]->lowest, dense for the search
  uint64_t size_ = 0;
  uint64_t memory_bytes_ = 0;
};

}  // namespace pando

#endif  // PANDO_STORE_INDEX_H_
