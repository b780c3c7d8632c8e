// Reads one segment's batches in order, headers only, and finds its way past what it cannot read.
#ifndef PANDO_STORE_LOG_WALKER_H_
#define PANDO_STORE_LOG_WALKER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "store/partition.h"

namespace pando {

/// Reads up to three times: what a start does not see is not there for it, and what cannot be read
/// once can often be read the next time. Bytes moved or -errno.
Task<int64_t> ReadPatiently(BlockDevice& device, uint64_t offset, std::span<std::byte> out);

/// A window on one segment that turns page-by-page reading into large sequential reads.
class SegmentWindow {
 public:
  SegmentWindow(Partition& partition, uint32_t segment)
      : partition_(partition), segment_(segment), buffer_(size_t{kPages} * kPageBytes) {}

  /// The page, or empty when the device reports an error. Valid until the next call.
  Task<std::span<const std::byte>> Page(uint32_t page);
  /// The page if it is here already, else empty. Saves loops from growing the stack: a task that
  /// finishes without waiting resumes its caller on top of itself where tail calls are not to be
  /// had (sanitizers).
  [[nodiscard]] std::span<const std::byte> Held(uint32_t page) const {
    if (page < first_ || page >= first_ + count_) return {};
    return buffer_.span().subspan(size_t{page - first_} * kPageBytes, kPageBytes);
  }

 private:
  static constexpr uint32_t kPages = 64;
  Partition& partition_;
  uint32_t segment_;
  AlignedBuffer buffer_;
  uint32_t first_ = 0;
  uint32_t count_ = 0;
};

struct WalkedBatch {
  BatchHeader header;
  std::span<const std::byte> page;  // valid until the walker moves on
  bool after_gap = false;           // what lies between the batch before and this one is unreadable
  uint32_t gap_page = 0;            // after_gap: where that begins
  bool gap_unread = false;          // after_gap: the device could not read the page there
};

class LogWalker {
 public:
  static constexpr uint32_t kUnknownCrc = 0;

  /// Starts at `page`. `previous_crc` is the CRC of the header before it; at the start of the
  /// segment there is none, and in its middle it may be unknown: then the first batch is not
  /// compared with it.
  LogWalker(Partition& partition, uint32_t segment, uint32_t generation, uint32_t page,
            uint32_t previous_crc)
      : partition_(partition),
        window_(partition, segment),
        segment_(segment),
        generation_(generation),
        page_(page),
        last_crc_(previous_crc),
        in_chain_(page == 0 || previous_crc != kUnknownCrc) {}

  /// Advances to the next batch; false at the end of the segment's log.
  Task<bool> Next();
  /// REQUIRES: Next returned true.
  [[nodiscard]] const WalkedBatch& batch() const { return batch_; }
  /// Behind the last valid batch.
  [[nodiscard]] uint32_t end_page() const { return page_; }
  /// Next returned false, and the device could not read the page at which the next batch would be:
  /// this may not be the end.
  [[nodiscard]] bool end_unread() const { return end_unread_; }

 private:
  static constexpr uint32_t kNoPage = 0xFFFFFFFF;
  [[nodiscard]] std::optional<BatchHeader> Check(std::span<const std::byte> bytes,
                                                 uint32_t page) const;
  Task<uint32_t> FindNext(uint32_t page);

  Partition& partition_;
  SegmentWindow window_;
  uint32_t segment_;
  uint32_t generation_;
  uint32_t page_;
  uint32_t last_crc_;
  bool in_chain_;
  bool ended_ = false;
  bool end_unread_ = false;
  WalkedBatch batch_;
};

/// The highest generation, above `above`, of any batch in the first `pages` pages of a segment; 0
/// if none.
Task<uint32_t> FindGeneration(Partition& partition, uint32_t segment, uint32_t above,
                              uint32_t pages);

}  // namespace pando

#endif  // PANDO_STORE_LOG_WALKER_H_
