// From the bytes on a device to a partition that can go on where the last process stopped.
//
// The rules, with the reasons in FORMAT.md: replay in sequence order from the checkpoint; a batch
// is known to be acknowledged when a later header vouches for it (durable_sequence); behind the
// last vouched batch only an unbroken run of complete batches is believed, and the rest, which
// nobody was promised, is erased; a vouched batch that cannot be read is corruption: reported, and
// nothing near it is cut or overwritten. What the device cannot read where something acknowledged
// may lie that nobody vouches for is neither: the open is refused, since the next one may read it.
#ifndef PANDO_STORE_RECOVERY_H_
#define PANDO_STORE_RECOVERY_H_

#include <optional>
#include <vector>

#include "store/log_walker.h"
#include "store/log_writer.h"
#include "store/partition.h"

namespace pando {

class Recovery {
 public:
  Recovery(Partition& partition, LogWriter& writer) : partition_(partition), writer_(writer) {}

  Task<Status> Run();

  /// The newest readable superblock. See DataPlane::Open for errors.
  static Task<Result<Superblock>> ReadSuperblock(BlockDevice& device);

 private:
  struct ReplayBatch {
    uint64_t sequence = 0;
    uint32_t segment = 0;
    uint32_t page = 0;
    uint32_t pages = 0;
    uint32_t crc = 0;
    uint32_t first_record = 0;
    uint32_t record_count = 0;
    uint8_t stream = 0;
    bool seals = false;
  };
  struct Gap {
    uint32_t segment = 0;
    uint32_t page = 0;           // first unreadable page
    uint64_t next_sequence = 0;  // of the valid batch behind it
    bool unread = false;         // the device could not read the page
  };

  Task<void> LoadTable();
  Task<void> ProbeSegment(uint32_t segment);
  Task<void> WalkAll();
  void Collect(const WalkedBatch& batch);
  void FindVouched();
  void RefuseUnread();
  [[nodiscard]] uint64_t NextInStream(const Gap& gap) const;
  void Refuse(uint32_t segment, uint32_t page);
  Task<void> CutTail();
  Task<bool> PayloadIsWhole(ReplayBatch batch);
  Task<bool> EraseDiscarded();
  void Replay();
  void ReportGaps();
  void OpenStreams();

  Partition& partition_;
  LogWriter& writer_;
  bool have_checkpoint_ = false;
  std::vector<uint32_t> to_walk_;
  std::vector<Gap> gaps_;
  std::optional<Error> refusal_;
  std::vector<ReplayBatch> batches_;
  std::vector<RecordHeader> records_;
  std::vector<RecordView> scratch_;
  std::vector<StreamPosition> vouched_positions_;  // by segment
  uint64_t vouched_ = 0;    // batches up to it were acknowledged, or could have been
  uint64_t last_good_ = 0;  // batches up to it are believed
  uint64_t replay_from_ = 0;
};

}  // namespace pando

#endif  // PANDO_STORE_RECOVERY_H_
