// Changes of one chunk happen one at a time: while a put, delete or move of an id is on its way
// into the log, later changes of that id wait here. That makes every combination of them a plain
// sequence.
#ifndef PANDO_STORE_CHANGE_GATE_H_
#define PANDO_STORE_CHANGE_GATE_H_

#include <unordered_map>

#include "pando/chunk_id.h"
#include "store/store_request.h"

namespace pando {

class ChangeGate {
 public:
  [[nodiscard]] bool busy(const ChunkId& id) const { return parked_.contains(id); }
  /// REQUIRES: !busy(id).
  void Enter(const ChunkId& id) {
    const bool fresh = parked_.try_emplace(id).second;
    PANDO_ASSERT(fresh);
  }
  /// REQUIRES: busy(request->id).
  void Park(StoreRequest* request) { parked_.find(request->id)->second.Push(request); }
  /// Ends the change; whoever waited is to be dispatched again (see PopReady). REQUIRES: busy(id).
  void Leave(const ChunkId& id) {
    const auto found = parked_.find(id);
    PANDO_ASSERT(found != parked_.end());
    RequestList waiting = found->second;
    parked_.erase(found);
    while (StoreRequest* request = waiting.Pop()) ready_.Push(request);
  }
  [[nodiscard]] StoreRequest* PopReady() { return ready_.Pop(); }
  [[nodiscard]] bool has_ready() const { return ready_.head != nullptr; }

 private:
  std::unordered_map<ChunkId, RequestList, ChunkIdHash> parked_;
  RequestList ready_;
};

}  // namespace pando

#endif  // PANDO_STORE_CHANGE_GATE_H_
