// One partition's chunk store: the requests of its users against index, log and device.
// Single-threaded; a reactor (or a test) drives it by calling BlockDevice::Poll and
// ChunkStore::Poll in turn.
#ifndef PANDO_STORE_CHUNK_STORE_H_
#define PANDO_STORE_CHUNK_STORE_H_

#include <cstdint>
#include <memory>

#include "store/change_gate.h"
#include "store/checkpointer.h"
#include "store/chunk_reader.h"
#include "store/collector.h"
#include "store/grower.h"
#include "store/log_writer.h"
#include "store/partition.h"
#include "store/scrubber.h"
#include "store/store_request.h"

namespace pando {

class ChunkStore {
 public:
  /// Writes a new, empty store. REQUIRES: the device holds nothing of value.
  [[nodiscard]] static Status Format(BlockDevice& device, const StoreOptions& options);
  /// Recovers what the device holds. Blocks, polling the device. See DataPlane::Open for errors.
  [[nodiscard]] static Result<std::unique_ptr<ChunkStore>> Open(BlockDevice& device,
                                                                StoreOptions options);
  ~ChunkStore();
  ChunkStore(const ChunkStore&) = delete;
  ChunkStore& operator=(const ChunkStore&) = delete;

  void Submit(StoreRequest* request);
  /// Of the classes of service. See ClassScheduler.
  void SetPlan(std::span<const ClassPlan> plan) { partition_.scheduler.SetPlan(plan); }
  /// While it is set, no request waits for the sake of a class.
  void SetHurried(bool hurried) { partition_.scheduler.SetOpen(hurried); }
  /// Advances everything that needs no device, and delivers what has completed. Returns how much it
  /// did.
  size_t Poll();
  /// No request and no background task is under way.
  [[nodiscard]] bool idle() const;
  /// When Poll wants to run again although nothing happens, in microseconds from now.
  [[nodiscard]] uint64_t NextTimerUs() const;

  /// Finishes what is in flight, writes a checkpoint and marks the store clean. Blocks, polling the
  /// device.
  [[nodiscard]] Status Close();
  /// Stops without writing anything more, as a crash would; for tests. Blocks until the device is
  /// quiet.
  void Abandon();

  [[nodiscard]] StoreStats Stats() const;
  [[nodiscard]] Partition& partition() { return partition_; }
  [[nodiscard]] const Partition& partition() const { return partition_; }

 private:
  ChunkStore(BlockDevice& device, StoreOptions options);

  void TakeTurn(StoreRequest* request);
  void Dispatch(StoreRequest* request);
  void Put(StoreRequest* request);
  void Delete(StoreRequest* request);
  void Get(StoreRequest* request);
  void Has(StoreRequest* request);
  void List(StoreRequest* request);
  Task<void> RunGet(StoreRequest* request, IndexEntry entry);
  Task<void> RunScrub(StoreRequest* request);
  Task<void> RunCollect(StoreRequest* request);
  void Append(StoreRequest* request);
  void AppendDelete(StoreRequest* request, const IndexEntry& entry);
  void Written(StoreRequest* request, ErrorCode code);
  void Complete(StoreRequest* request, ErrorCode code);
  void Background();
  size_t Drain();
  static void HashPayload(StoreRequest& request);

  Partition partition_;
  ChangeGate gate_;
  LogWriter writer_;
  ChunkReader reader_;
  Collector collector_;
  Checkpointer checkpointer_;
  Grower grower_;
  Scrubber scrubber_;

  RequestList completed_;
  uint64_t reserved_bytes_ = 0;  // charged to puts that are queued or in flight
  uint64_t requests_ = 0;        // submitted and not delivered
  uint64_t idle_since_us_ = 0;
  bool open_ = false;
};

}  // namespace pando

#endif  // PANDO_STORE_CHUNK_STORE_H_
