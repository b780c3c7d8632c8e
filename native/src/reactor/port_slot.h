// A request to the store in flight, and how it finds the partition that it concerns.
#ifndef PANDO_REACTOR_PORT_SLOT_H_
#define PANDO_REACTOR_PORT_SLOT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "block/aligned_buffer.h"
#include "store/store_request.h"

namespace pando {

class Reactor;
struct PortSlot;

/// Whose requests they are: a port, or the chunk RPC of a reactor.
class SlotOwner {
 public:
  /// On whose thread `Completed` is called.
  [[nodiscard]] virtual Reactor& home() = 0;
  virtual void Completed(PortSlot* slot) = 0;

 protected:
  ~SlotOwner() = default;
};

/// Travels to the reactor that owns the partition and back.
struct PortSlot {
  StoreRequest request;
  uint64_t token = 0;
  SlotOwner* owner = nullptr;
  Reactor* target = nullptr;
  PortSlot* parent = nullptr;             // of a part of a request that concerns all partitions
  std::unique_ptr<AlignedBuffer> buffer;  // of a part
  std::vector<std::unique_ptr<PortSlot>> parts;
  uint32_t parts_left = 0;
  uint64_t ticket = 0;  // of a put or delete, for kSync
  void* context = nullptr;  // the owner's
};

/// Sends the slot to the partition of its chunk, or parts of it to all. REQUIRES: on the owner's home.
void RouteToPartition(PortSlot* slot, const std::vector<Reactor*>& reactors);
/// Takes the answer of a part. True when it was the last: the parent has its answer now.
[[nodiscard]] bool JoinPart(PortSlot* part);

}  // namespace pando

#endif  // PANDO_REACTOR_PORT_SLOT_H_
