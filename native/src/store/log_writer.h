// Builds batches, keeps at most a few in flight, and applies them strictly in sequence order once
// they are durable: group commit that clocks itself by the device, without timers.
#ifndef PANDO_STORE_LOG_WRITER_H_
#define PANDO_STORE_LOG_WRITER_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "store/partition.h"

namespace pando {

/// One record on its way into the log. Lives in its owner's structure until `done` runs.
struct WriteOp {
  enum class Kind : uint8_t {
    kPut,
    kDelete,
    kMove,   // the collector's copy of a live chunk
    kCarry,  // the collector's copy of a delete that must outlive its segment
  };
  Kind kind = Kind::kPut;
  RecordHeader record;
  std::byte* payload = nullptr;      // padded with zeros to whole pages by the writer
  std::vector<uint32_t> block_crcs;  // when longer than one block

  /// Applies the record's effect has happened before this runs; kOk means durable. Runs inside
  /// BlockDevice::Poll: it queues, it does not call back into users.
  void (*done)(WriteOp*, ErrorCode) = nullptr;
  void* context = nullptr;

  uint64_t address = 0;  // set by the writer, as in IndexEntry
  uint32_t header_distance = 0;
  WriteOp* next = nullptr;
};

class LogWriter {
 public:
  explicit LogWriter(Partition& partition);

  void Enqueue(uint32_t stream, WriteOp* op);
  /// Builds and submits what the clock allows. Returns how many batches it submitted.
  size_t Pump();
  /// Makes the tail of the log distinguishable from a torn one: appends an empty batch that vouches
  /// for all before it. Needed after the last write of a burst, because later batches do it
  /// otherwise.
  void Vouch();
  [[nodiscard]] bool vouched() const { return vouched_sequence_ >= last_data_sequence_; }

  /// Nothing queued and nothing in flight.
  [[nodiscard]] bool idle() const;
  [[nodiscard]] size_t queued(uint32_t stream) const { return streams_[stream].queue_length; }
  /// Puts wait for a free segment.
  [[nodiscard]] bool starved() const { return starved_; }
  /// Fails all queued user puts; for when no space can be won any more.
  void FailQueuedPuts(ErrorCode code);
  /// Fails everything that is queued but not in flight.
  void FailQueued(ErrorCode code);

  // Recovery hands over where the log ends.
  void Resume(uint32_t stream, uint32_t segment);
  void SetSequence(uint64_t last) {
    next_sequence_ = last + 1;
    vouched_sequence_ = last_data_sequence_ = last;
  }
  [[nodiscard]] uint32_t open_segment(uint32_t stream) const { return streams_[stream].segment; }

 private:
  struct Batch {
    AlignedBuffer buffer;
    BlockRequest request;
    LogWriter* writer = nullptr;
    std::vector<WriteOp*> ops;
    uint64_t sequence = 0;
    uint32_t stream = 0;
    uint32_t segment = 0;
    uint32_t page = 0;
    uint32_t pages = 0;
    uint32_t crc = 0;
    bool seals = false;
    bool finished = false;
    bool busy = false;
  };
  struct Stream {
    WriteOp* head = nullptr;
    WriteOp* tail = nullptr;
    size_t queue_length = 0;
    uint64_t queue_bytes = 0;
    uint32_t segment = kNoSegment;
    uint32_t in_flight = 0;
    StreamPosition durable;
  };

  static constexpr uint32_t kBatchBytes = 256 * 1024;
  static constexpr uint32_t kAloneBytes =
      128 * 1024;  // larger payloads are written from where they are
  static constexpr uint32_t kUserBatches = 8;
  static constexpr uint32_t kMoveBatches = 2;

  bool PumpStream(uint32_t stream);
  [[nodiscard]] bool AwaitsFirstBatch(const Stream& stream) const;
  [[nodiscard]] bool ShouldSubmit(const Stream& stream, uint32_t most) const;
  uint32_t Choose(uint32_t stream, Batch& batch);
  bool EnsureSegment(uint32_t stream, uint32_t pages);
  void Place(Batch& batch);
  void SealAndSubmit(Batch& batch, uint32_t payload_pages, uint32_t slots, uint8_t flags);
  [[nodiscard]] uint64_t BatchBytes() const;
  void RerouteDeletes();
  [[nodiscard]] Batch* FreeBatch();
  WriteOp* PopOp(Stream& stream);
  void Finished(Batch& batch);
  void Settle();
  void Apply(Batch& batch);

  Partition& partition_;
  std::array<Stream, kStreams> streams_;
  std::vector<std::unique_ptr<Batch>> pool_;
  std::deque<Batch*> unsettled_;  // by sequence
  uint64_t next_sequence_ = 1;
  uint64_t last_data_sequence_ = 0;  // last batch with records
  uint64_t vouched_sequence_ = 0;    // durable_sequence of the last durable header
  bool starved_ = false;
};

}  // namespace pando

#endif  // PANDO_STORE_LOG_WRITER_H_
