// Writes the index and the segment table so that a start replays only what came later. Fuzzy: the
// store goes on working; entries may be newer than `replay_from`, and replaying the log from there
// makes them right again.
#ifndef PANDO_STORE_CHECKPOINTER_H_
#define PANDO_STORE_CHECKPOINTER_H_

#include <vector>

#include "store/partition.h"

namespace pando {

/// Writes the next superblock, two of the four copies in turn, durably. On failure the device is
/// offline.
Task<bool> WriteSuperblock(Partition& partition, Superblock next);

class Checkpointer {
 public:
  explicit Checkpointer(Partition& partition) : partition_(partition) {}

  /// Starts a checkpoint when the log since the last one is long enough.
  void Pump();
  [[nodiscard]] bool running() const { return running_; }
  /// Writes one now. False: not possible (no free segment, or the device failed).
  Task<bool> Write();

 private:
  class Stream;
  Task<void> RunInBackground();

  Partition& partition_;
  bool running_ = false;
};

/// Reads the checkpoint that the superblock names into partition.segments and partition.index.
/// False: it is damaged; both are empty then.
Task<bool> LoadCheckpoint(Partition& partition);

}  // namespace pando

#endif  // PANDO_STORE_CHECKPOINTER_H_
