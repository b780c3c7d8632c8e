// Wins space back: copies what is live out of the segment that gains most for its cost, through a
// write stream of its own, and frees the segment. One victim at a time; a victim whose collection
// was interrupted by a crash comes first, so that no stale copy outlives the delete that killed it.
#ifndef PANDO_STORE_COLLECTOR_H_
#define PANDO_STORE_COLLECTOR_H_

#include <memory>
#include <vector>

#include "store/change_gate.h"
#include "store/chunk_reader.h"
#include "store/log_walker.h"
#include "store/log_writer.h"
#include "store/partition.h"

namespace pando {

class Collector {
 public:
  Collector(Partition& partition, LogWriter& writer, ChunkReader& reader, ChangeGate& gate)
      : partition_(partition), writer_(writer), reader_(reader), gate_(gate) {}

  /// Starts collecting one segment when space is short enough for what it costs.
  void Pump();
  [[nodiscard]] bool running() const { return running_; }
  /// Space was asked for and no segment is worth collecting.
  [[nodiscard]] bool exhausted() const { return exhausted_; }
  /// Collects the best segment whatever the pressure. Returns how many were freed.
  Task<uint32_t> CollectOne();

 private:
  struct Move;
  [[nodiscard]] std::optional<uint32_t> ChooseVictim(bool urgent) const;
  void JudgeProgress();
  Task<void> RunInBackground(uint32_t victim);
  Task<bool> Collect(uint32_t victim);
  [[nodiscard]] std::vector<RecordHeader> WantedRecords(uint32_t victim,
                                                        const WalkedBatch& batch) const;
  Task<bool> MoveBatch(uint32_t victim, BatchHeader header,
                       const std::vector<RecordHeader>& records);
  Task<bool> MoveChunk(IndexEntry entry, uint32_t victim);
  Task<bool> CarryDelete(RecordHeader record);
  Task<bool> MoveStragglers(uint32_t victim);
  Task<bool> IsFirstPageReadable(uint32_t victim);
  Task<bool> IsReadable(uint32_t victim);
  Task<bool> WriteFreeMarker(uint32_t victim);
  [[nodiscard]] bool DeleteIsNeeded(uint32_t victim, const RecordHeader& record) const;

  Partition& partition_;
  LogWriter& writer_;
  ChunkReader& reader_;
  ChangeGate& gate_;
  bool running_ = false;
  bool exhausted_ = false;
  uint64_t exhausted_changes_ = 0;  // puts and deletes then; after more of them there is hope again
  uint32_t fruitless_ = 0;          // victims in a row that won no segment on balance
  uint32_t most_free_ = 0;          // since the row began
  uint64_t judged_puts_ = 0;
  uint32_t in_flight_ = 0;
  bool failed_ = false;
};

}  // namespace pando

#endif  // PANDO_STORE_COLLECTOR_H_
