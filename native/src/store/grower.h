// Makes segments ahead of need. A durable write into a range that was never written costs a journal
// commit of the file system each time; into one that was filled with zeros it is a plain overwrite.
// Where writes are large, that commit costs less than writing everything twice, so that the zeros
// are left out: the space is reserved in either case.
#ifndef PANDO_STORE_GROWER_H_
#define PANDO_STORE_GROWER_H_

#include "store/partition.h"

namespace pando {

class Grower {
 public:
  explicit Grower(Partition& partition) : partition_(partition) {}

  /// Starts growing by one segment when fewer than wanted are free, or when puts wait for space. A device
  /// that had no room is tried again once a second.
  void Pump(bool urgent);
  [[nodiscard]] bool running() const { return running_; }

  enum class Fill : uint8_t {
    kZeros,     // written with zeros, where the device says that this pays
    kReserved,  // reads as zeros; written only where nothing else reserves its space
  };
  /// Makes a range, durably. kInsufficientStorage when the device cannot grow.
  static Task<Status> MakeRange(BlockDevice& device, uint64_t offset, uint64_t bytes, Fill fill);

 private:
  Task<void> Grow();
  [[nodiscard]] Fill FillForRecentWrites();

  static constexpr uint64_t kLookAgainUs = 1000000;

  Partition& partition_;
  bool running_ = false;
  uint64_t refused_us_ = 0;  // when the device last had no room
};

}  // namespace pando

#endif  // PANDO_STORE_GROWER_H_
