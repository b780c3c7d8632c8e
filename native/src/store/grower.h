// Pre-writes segments ahead of need. A durable write into a range that was never written costs a
// journal commit of the file system each time; into a pre-written one it is a plain overwrite.
#ifndef PANDO_STORE_GROWER_H_
#define PANDO_STORE_GROWER_H_

#include "store/partition.h"

namespace pando {

class Grower {
 public:
  explicit Grower(Partition& partition) : partition_(partition) {}

  /// Starts growing by one segment when fewer than wanted are free, or when puts wait for space.
  void Pump(bool urgent);
  [[nodiscard]] bool running() const { return running_; }

  /// Zeroes the range of one segment, durably. kInsufficientStorage when the device cannot grow.
  static Task<Status> Prewrite(BlockDevice& device, uint64_t offset, uint64_t bytes);

 private:
  Task<void> Grow();

  Partition& partition_;
  bool running_ = false;
};

}  // namespace pando

#endif  // PANDO_STORE_GROWER_H_
