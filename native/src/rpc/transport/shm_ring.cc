#include "rpc/transport/shm_ring.h"

#include <algorithm>
#include <cstring>

namespace pando::rpc {

void RingWriter::LookAtHead() {
  const uint64_t told = control_->head.load(std::memory_order_seq_cst);
  // Neither back, nor ahead of what was published, nor between two units.
  if (told < head_ || told > published_ || told % kRingUnit != 0) {
    broken_ = true;
    return;
  }
  head_ = told;
}

size_t RingWriter::Free(size_t wanted) {
  if (broken_) return 0;
  if (data_.size() - (tail_ - head_) < wanted) {
    LookAtHead();
    if (broken_) return 0;
  }
  return data_.size() - static_cast<size_t>(tail_ - head_);
}

void RingWriter::Write(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const size_t at = static_cast<size_t>(tail_) & (data_.size() - 1);
  const size_t first = std::min(bytes.size(), data_.size() - at);
  std::memcpy(data_.data() + at, bytes.data(), first);
  if (first < bytes.size()) {
    std::memcpy(data_.data(), bytes.data() + first, bytes.size() - first);
  }
  tail_ += bytes.size();
}

bool RingWriter::Publish() {
  if (tail_ == published_) return false;
  published_ = tail_;
  // Sequentially consistent, like all four accesses of this and of the reader's Arm: one of the two
  // sees what the other has stored. (No fences: ThreadSanitizer does not know them.)
  control_->tail.store(tail_, std::memory_order_seq_cst);
  return control_->reader_sleeps.load(std::memory_order_seq_cst) != 0 &&
         control_->reader_sleeps.exchange(0, std::memory_order_relaxed) != 0;
}

bool RingWriter::Arm() {
  control_->writer_sleeps.store(1, std::memory_order_seq_cst);
  if (Free(data_.size()) < kRingUnit && !broken_) return true;
  Disarm();
  return false;
}

void RingReader::LookAtTail() {
  const uint64_t told = control_->tail.load(std::memory_order_seq_cst);
  if (told < tail_ || told - head_ > data_.size() || told % kRingUnit != 0) {
    broken_ = true;
    return;
  }
  tail_ = told;
}

size_t RingReader::Available(size_t wanted) {
  if (broken_) return 0;
  if (tail_ - head_ < wanted) {
    LookAtTail();
    if (broken_) return 0;
  }
  return static_cast<size_t>(tail_ - head_);
}

void RingReader::Read(std::span<std::byte> into) {
  if (into.empty()) return;
  const size_t at = static_cast<size_t>(head_) & (data_.size() - 1);
  const size_t first = std::min(into.size(), data_.size() - at);
  std::memcpy(into.data(), data_.data() + at, first);
  if (first < into.size()) std::memcpy(into.data() + first, data_.data(), into.size() - first);
  head_ += into.size();
}

bool RingReader::Publish() {
  if (head_ == published_) return false;
  published_ = head_;
  control_->head.store(head_, std::memory_order_seq_cst);
  if (control_->writer_sleeps.load(std::memory_order_seq_cst) == 0) return false;
  // A writer that waits is not woken for every few bytes: that would be a switch for each of them.
  if (tail_ - head_ > data_.size() / 2) return false;
  return control_->writer_sleeps.exchange(0, std::memory_order_relaxed) != 0;
}

bool RingReader::Arm() {
  control_->reader_sleeps.store(1, std::memory_order_seq_cst);
  if (Available(data_.size()) == 0 && !broken_) return true;
  Disarm();
  return false;
}

}  // namespace pando::rpc
