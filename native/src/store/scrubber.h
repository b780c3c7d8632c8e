// Reads everything that is live and compares it with what the index expects, in the order of the
// device.
#ifndef PANDO_STORE_SCRUBBER_H_
#define PANDO_STORE_SCRUBBER_H_

#include <vector>

#include "store/chunk_reader.h"
#include "store/log_walker.h"
#include "store/partition.h"

namespace pando {

class Scrubber {
 public:
  Scrubber(Partition& partition, ChunkReader& reader) : partition_(partition), reader_(reader) {}

  struct Step {
    uint64_t next_position = 0;  // 0: the whole partition was covered
    std::vector<ScrubFinding> findings;
  };
  /// Continues at `position` (0 to begin) until about `budget_bytes` were read or `limit` findings
  /// made.
  Task<Step> Run(uint64_t position, uint64_t budget_bytes, size_t limit);

 private:
  Task<void> CheckChunk(IndexEntry entry, Step& step);
  Task<void> CheckBehindHeader(uint32_t segment, uint32_t page, uint32_t end_page, Step& step);

  Partition& partition_;
  ChunkReader& reader_;
};

}  // namespace pando

#endif  // PANDO_STORE_SCRUBBER_H_
