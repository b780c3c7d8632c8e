#include "reactor/port_slot.h"

#include <algorithm>
#include <cstring>

#include "reactor/reactor.h"

namespace pando {
namespace {

bool ConcernsAllPartitions(PortOp op) {
  return op == PortOp::kList || op == PortOp::kStats || op == PortOp::kCollect;
}

void FanOut(PortSlot* slot, const std::vector<Reactor*>& reactors) {
  const StoreRequest& whole = slot->request;
  slot->parts.clear();
  slot->parts_left = static_cast<uint32_t>(reactors.size());
  size_t bytes = kPageBytes;
  if (whole.op == PortOp::kList) bytes = size_t{whole.length} * sizeof(ListRecord);
  for (Reactor* reactor : reactors) {
    auto part = std::make_unique<PortSlot>();
    part->owner = slot->owner;
    part->parent = slot;
    part->target = reactor;
    part->buffer = std::make_unique<AlignedBuffer>(std::max<size_t>(bytes, kPageBytes));
    part->request.op = whole.op;
    part->request.qos_class = whole.qos_class;
    part->request.id = whole.id;
    part->request.length = whole.length;
    part->request.data = part->buffer->data();
    slot->parts.push_back(std::move(part));
  }
  Reactor& home = slot->owner->home();
  for (const auto& part : slot->parts) home.Route(part.get(), *part->target);
}

// Makes one answer of the partitions' answers.
void Join(PortSlot* parent) {
  StoreRequest& whole = parent->request;
  whole.status = ErrorCode::kOk;
  for (const auto& part : parent->parts) {
    if (part->request.status != ErrorCode::kOk) whole.status = part->request.status;
  }
  if (whole.status == ErrorCode::kOk && whole.op == PortOp::kStats) {
    StoreStats sum = {};
    auto* totals = reinterpret_cast<uint64_t*>(&sum);
    for (const auto& part : parent->parts) {
      for (size_t i = 0; i < sizeof(StoreStats) / 8; ++i) {
        uint64_t value = 0;
        std::memcpy(&value, part->buffer->data() + i * 8, 8);
        totals[i] += value;
      }
    }
    std::memcpy(whole.data, &sum, sizeof sum);
    whole.out_length = sizeof sum;
  } else if (whole.status == ErrorCode::kOk && whole.op == PortOp::kCollect) {
    for (const auto& part : parent->parts) whole.out_value += part->request.out_value;
  } else if (whole.status == ErrorCode::kOk) {
    std::vector<ListRecord> all;
    for (const auto& part : parent->parts) {
      const auto* records = reinterpret_cast<const ListRecord*>(part->buffer->data());
      all.insert(all.end(), records, records + part->request.out_length);
      if (part->request.out_value == 0) continue;
      // Where a partition stopped, the merged list must stop too: its next id is a candidate like
      // others.
      ListRecord next = {};
      next.id = part->request.out_id;
      all.push_back(next);
    }
    std::sort(all.begin(), all.end(),
              [](const ListRecord& a, const ListRecord& b) { return a.id < b.id; });
    const size_t count = std::min<size_t>(all.size(), whole.length);
    if (count > 0) std::memcpy(whole.data, all.data(), count * sizeof(ListRecord));
    whole.out_length = static_cast<uint32_t>(count);
    whole.out_value = all.size() > count ? 1 : 0;
    if (all.size() > count) whole.out_id = all[count].id;
  }
  parent->parts.clear();
}

}  // namespace

void RouteToPartition(PortSlot* slot, const std::vector<Reactor*>& reactors) {
  Reactor& home = slot->owner->home();
  slot->target = &home;
  StoreRequest& request = slot->request;
  request.out_length = request.out_crc = request.out_chunk_length = 0;
  request.out_value = 0;
  request.out_id = request.id;
  request.os_error = 0;
  if (reactors.size() > 1) {
    if (ConcernsAllPartitions(request.op)) return FanOut(slot, reactors);
    uint64_t partition = request.id.Hash() % reactors.size();
    if (request.op == PortOp::kScrub) {
      partition = request.position >> 56U;
      request.position &= (1ULL << 56U) - 1;
    }
    slot->target = reactors[partition];
  }
  home.Route(slot, *slot->target);
}

bool JoinPart(PortSlot* part) {
  PortSlot* parent = part->parent;
  if (--parent->parts_left > 0) return false;
  Join(parent);
  return true;
}

}  // namespace pando
