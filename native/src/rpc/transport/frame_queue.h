#ifndef PANDO_RPC_TRANSPORT_FRAME_QUEUE_H_
#define PANDO_RPC_TRANSPORT_FRAME_QUEUE_H_

#include "rpc/transport.h"

namespace pando::rpc {

/// First in, first out, linked through the frames themselves: takes no memory.
class FrameQueue {
 public:
  [[nodiscard]] bool empty() const { return first_ == nullptr; }
  [[nodiscard]] OutgoingFrame* front() const { return first_; }
  void Push(OutgoingFrame* frame) {
    frame->next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = frame;
    last_ = frame;
  }
  OutgoingFrame* Pop() {
    OutgoingFrame* const frame = first_;
    first_ = frame->next;
    frame->next = nullptr;
    return frame;
  }
  /// False: it is not here.
  [[nodiscard]] bool Remove(OutgoingFrame* frame) {
    OutgoingFrame* before = nullptr;
    for (OutgoingFrame* at = first_; at != nullptr; before = at, at = at->next) {
      if (at != frame) continue;
      (before == nullptr ? first_ : before->next) = at->next;
      if (last_ == at) last_ = before;
      at->next = nullptr;
      return true;
    }
    return false;
  }

 private:
  OutgoingFrame* first_ = nullptr;
  OutgoingFrame* last_ = nullptr;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_FRAME_QUEUE_H_
