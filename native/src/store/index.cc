#include "store/index.h"

#include <algorithm>

namespace pando {
namespace {

constexpr uint64_t kAddressBits = 48;
constexpr uint64_t kAddressMask = (1ULL << kAddressBits) - 1;
constexpr uint32_t kNotFound = 0xFFFFFFFF;
constexpr uint32_t kLengthMask = (1U << 23U) - 1;

uint64_t DistanceOf(const ChunkRecord& record) { return record.address >> kAddressBits; }
void SetDistance(ChunkRecord& record, uint64_t distance) {
  record.address = (record.address & kAddressMask) | distance << kAddressBits;
}

}  // namespace

ChunkRecord PackEntry(const IndexEntry& entry) {
  PANDO_ASSERT(entry.length > 0 && entry.length <= kMaxChunkBytes && entry.header_distance < 128);
  PANDO_ASSERT(entry.address <= kAddressMask);
  ChunkRecord record;
  record.id = entry.id;
  record.crc = entry.crc;
  record.packed = entry.length | (entry.damaged ? 1U << 23U : 0U) | entry.header_distance << 24U;
  record.address = entry.address;
  return record;
}

IndexEntry UnpackEntry(const ChunkRecord& record) {
  IndexEntry entry;
  entry.id = record.id;
  entry.crc = record.crc;
  entry.length = record.packed & kLengthMask;
  entry.damaged = (record.packed >> 23U & 1U) != 0;
  entry.header_distance = record.packed >> 24U & 127U;
  entry.address = record.address & kAddressMask;
  return entry;
}

Index::Index() {
  auto leaf = std::make_unique<Leaf>();
  Resize(*leaf, kSmallest);
  leaves_.push_back(std::move(leaf));
  bounds_.emplace_back();
}

size_t Index::LeafFor(const ChunkId& id) const {
  const auto after = std::upper_bound(bounds_.begin(), bounds_.end(), id);
  return static_cast<size_t>(after - bounds_.begin()) - 1;
}

uint32_t Index::Home(const Leaf& leaf, const ChunkId& id) {
  return static_cast<uint32_t>((id.Hash() >> 32U) * leaf.capacity >> 32U);
}

uint32_t Index::Search(const Leaf& leaf, const ChunkId& id) {
  uint32_t slot = Home(leaf, id);
  for (uint64_t distance = 0; distance < leaf.capacity; ++distance) {
    const ChunkRecord& record = leaf.slots[slot];
    // Robin Hood: had it been here, it would have pushed this richer entry on.
    if (record.packed == 0 || DistanceOf(record) < distance) return kNotFound;
    if (record.id == id) return slot;
    if (++slot == leaf.capacity) slot = 0;
  }
  return kNotFound;
}

void Index::Insert(Leaf& leaf, ChunkRecord record) {
  uint32_t slot = Home(leaf, record.id);
  SetDistance(record, 0);
  for (;;) {
    ChunkRecord& here = leaf.slots[slot];
    if (here.packed == 0) {
      here = record;
      ++leaf.size;
      return;
    }
    if (DistanceOf(here) < DistanceOf(record)) std::swap(here, record);
    SetDistance(record, DistanceOf(record) + 1);
    if (++slot == leaf.capacity) slot = 0;
  }
}

void Index::Resize(Leaf& leaf, uint32_t capacity) {
  PANDO_ASSERT(capacity > leaf.size);
  const auto old = std::move(leaf.slots);
  const uint32_t old_capacity = leaf.capacity;
  leaf.slots = std::make_unique<ChunkRecord[]>(capacity);
  leaf.capacity = capacity;
  leaf.size = 0;
  for (uint32_t i = 0; i < old_capacity; ++i) {
    if (old[i].packed != 0) Insert(leaf, old[i]);
  }
  memory_bytes_ += (uint64_t{capacity} - old_capacity) * sizeof(ChunkRecord);
}

void Index::Split(size_t index) {
  Leaf& low = *leaves_[index];
  std::vector<ChunkRecord> all;
  all.reserve(low.size);
  for (uint32_t i = 0; i < low.capacity; ++i) {
    if (low.slots[i].packed != 0) all.push_back(low.slots[i]);
  }
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  std::nth_element(all.begin(), middle, all.end(),
                   [](const ChunkRecord& a, const ChunkRecord& b) { return a.id < b.id; });
  auto high = std::make_unique<Leaf>();
  high->lowest = middle->id;
  memory_bytes_ -= uint64_t{low.capacity} * sizeof(ChunkRecord);
  low.slots.reset();
  low.size = low.capacity = 0;
  Resize(low, kLeafEntries / 2 * 8 / 7);
  Resize(*high, kLeafEntries / 2 * 8 / 7);
  std::for_each(all.begin(), middle, [&](const ChunkRecord& record) { Insert(low, record); });
  std::for_each(middle, all.end(), [&](const ChunkRecord& record) { Insert(*high, record); });
  const auto next = static_cast<std::ptrdiff_t>(index + 1);
  bounds_.insert(bounds_.begin() + next, high->lowest);
  leaves_.insert(leaves_.begin() + next, std::move(high));
}

std::optional<IndexEntry> Index::Find(const ChunkId& id) const {
  const Leaf& leaf = *leaves_[LeafFor(id)];
  const uint32_t slot = Search(leaf, id);
  if (slot == kNotFound) return std::nullopt;
  return UnpackEntry(leaf.slots[slot]);
}

std::optional<IndexEntry> Index::Put(const IndexEntry& entry) {
  size_t index = LeafFor(entry.id);
  const uint32_t slot = Search(*leaves_[index], entry.id);
  ChunkRecord record = PackEntry(entry);
  if (slot != kNotFound) {
    ChunkRecord& here = leaves_[index]->slots[slot];
    const IndexEntry old = UnpackEntry(here);
    SetDistance(record, DistanceOf(here));
    here = record;
    return old;
  }
  if (leaves_[index]->size >= kLeafEntries) {
    Split(index);
    index = LeafFor(entry.id);
  }
  Leaf& leaf = *leaves_[index];
  if ((leaf.size + 1) * 10 > leaf.capacity * 9) Resize(leaf, leaf.capacity + leaf.capacity / 8 + 1);
  Insert(leaf, record);
  ++size_;
  return std::nullopt;
}

std::optional<IndexEntry> Index::Erase(const ChunkId& id) {
  const size_t index = LeafFor(id);
  Leaf& leaf = *leaves_[index];
  uint32_t slot = Search(leaf, id);
  if (slot == kNotFound) return std::nullopt;
  const IndexEntry old = UnpackEntry(leaf.slots[slot]);
  // Backward shift: no graves, so probes stay short however often a leaf turns over.
  for (;;) {
    const uint32_t next = slot + 1 == leaf.capacity ? 0 : slot + 1;
    ChunkRecord& follower = leaf.slots[next];
    if (follower.packed == 0 || DistanceOf(follower) == 0) break;
    leaf.slots[slot] = follower;
    SetDistance(leaf.slots[slot], DistanceOf(follower) - 1);
    slot = next;
  }
  leaf.slots[slot] = ChunkRecord{};
  --leaf.size;
  --size_;
  if (leaf.size == 0 && leaves_.size() > 1) {
    memory_bytes_ -= uint64_t{leaf.capacity} * sizeof(ChunkRecord);
    // The first range must keep starting at the lowest id: its successor takes it over.
    if (index == 0) {
      leaves_[1]->lowest = ChunkId{};
      bounds_[1] = ChunkId{};
    }
    leaves_.erase(leaves_.begin() + static_cast<std::ptrdiff_t>(index));
    bounds_.erase(bounds_.begin() + static_cast<std::ptrdiff_t>(index));
  } else if (leaf.capacity > kSmallest && leaf.size * 10 < leaf.capacity * 7) {
    Resize(leaf, std::max(kSmallest, leaf.size * 8 / 7 + 1));
  }
  return old;
}

void Index::List(const ChunkId& from, size_t limit, std::vector<IndexEntry>& out) const {
  out.clear();
  std::vector<const ChunkRecord*> sorted;
  for (size_t i = LeafFor(from); i < leaves_.size() && out.size() < limit; ++i) {
    const Leaf& leaf = *leaves_[i];
    sorted.clear();
    for (uint32_t slot = 0; slot < leaf.capacity; ++slot) {
      const ChunkRecord& record = leaf.slots[slot];
      if (record.packed != 0 && !(record.id < from)) sorted.push_back(&record);
    }
    const size_t wanted = std::min(limit - out.size(), sorted.size());
    std::partial_sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(wanted),
                      sorted.end(),
                      [](const ChunkRecord* a, const ChunkRecord* b) { return a->id < b->id; });
    for (size_t k = 0; k < wanted; ++k) out.push_back(UnpackEntry(*sorted[k]));
  }
}

std::optional<ChunkId> Index::ReadRange(const ChunkId& cursor, std::vector<IndexEntry>& out) const {
  out.clear();
  const size_t index = LeafFor(cursor);
  const Leaf& leaf = *leaves_[index];
  for (uint32_t slot = 0; slot < leaf.capacity; ++slot) {
    const ChunkRecord& record = leaf.slots[slot];
    if (record.packed != 0 && !(record.id < cursor)) out.push_back(UnpackEntry(record));
  }
  if (index + 1 == leaves_.size()) return std::nullopt;
  return bounds_[index + 1];
}

}  // namespace pando
