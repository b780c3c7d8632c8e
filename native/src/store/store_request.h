#ifndef PANDO_STORE_STORE_REQUEST_H_
#define PANDO_STORE_STORE_REQUEST_H_

#include <cstdint>

#include "pando/port_layout.h"
#include "qos/class_scheduler.h"
#include "store/log_writer.h"

namespace pando {

class ChunkStore;

/// Lives with its user until `done` runs, which happens inside ChunkStore::Poll, never inside
/// Submit.
struct StoreRequest {
  PortOp op = PortOp::kNop;
  uint8_t qos_class = 0;
  ChunkId id;
  std::byte* data = nullptr;  // payload in or out; page aligned, whole pages (see port_layout.h)
  uint32_t length = 0;        // payload bytes, or record limit
  uint32_t chunk_offset = 0;
  uint32_t budget_bytes = 0;
  uint64_t position = 0;
  /// kPut: store it only if this is the payload's CRC, else kProtocolError: it was damaged on its way.
  bool checks_crc = false;
  uint32_t expected_crc = 0;

  ErrorCode status = ErrorCode::kOk;
  uint32_t out_length = 0;
  uint32_t out_crc = 0;
  uint32_t out_chunk_length = 0;
  uint64_t out_value = 0;
  ChunkId out_id;
  int32_t os_error = 0;

  void (*done)(StoreRequest*) = nullptr;
  void* context = nullptr;

  // The store's own.
  ChunkStore* store = nullptr;
  WriteOp write;
  QosItem turn;
  bool has_turn = false;
  bool hashed = false;
  uint64_t charge = 0;
  StoreRequest* next = nullptr;
};

/// First in, first out, without allocation.
struct RequestList {
  StoreRequest* head = nullptr;
  StoreRequest* tail = nullptr;
  void Push(StoreRequest* request) {
    request->next = nullptr;
    (tail != nullptr ? tail->next : head) = request;
    tail = request;
  }
  StoreRequest* Pop() {
    StoreRequest* request = head;
    if (request == nullptr) return nullptr;
    head = request->next;
    if (head == nullptr) tail = nullptr;
    return request;
  }
};

}  // namespace pando

#endif  // PANDO_STORE_STORE_REQUEST_H_
