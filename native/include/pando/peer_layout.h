// Requests to other nodes through a port: entries that overlay those of port_layout.h, and the page
// of the slab that JavaScript and a session or listener share for as long as it lives.
//
// The page is the data plane's from kPeerConnect or kPeerListen until kPeerClose has completed, and
// holds what is asked for (before), who answered (after), and live counters.
#ifndef PANDO_PEER_LAYOUT_H_
#define PANDO_PEER_LAYOUT_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "pando/port_layout.h"

namespace pando {

// Of PortOp. `peer` is the handle that kPeerConnect or kPeerListen gave.
inline constexpr PortOp kPeerConnect{16};  // page at slab_offset. CQ.value = handle
inline constexpr PortOp kPeerListen{17};   // page at slab_offset. CQ.value = handle
/// peer, length = milliseconds of grace. Completes when nothing of it is under way; the handle and
/// the page are free then. OK also for what is over already.
inline constexpr PortOp kPeerClose{18};
/// peer. Completes when it is over. OK: it was closed in good order; CQ.value = EndedBy (session.h);
/// the message is in the page.
inline constexpr PortOp kPeerEnded{19};
// To the store of the peer; fields as for the local op.
inline constexpr PortOp kPeerPut{20};
inline constexpr PortOp kPeerGet{21};
inline constexpr PortOp kPeerHas{22};
inline constexpr PortOp kPeerDelete{23};
inline constexpr PortOp kPeerList{24};  // length at most 4096
inline constexpr PortOp kPeerStat{25};
inline constexpr PortOp kPeerPing{26};
/// id = token of a request to a peer, which ends as soon as its memory is free. Completes at once.
inline constexpr PortOp kPeerCancel{27};
/// What the peer has posted on its listener's board: CQ.id, then CQ.chunk_length and CQ.crc32c, as one run of
/// 24 bytes. CHUNK_NOT_FOUND: nothing yet.
inline constexpr PortOp kPeerNotice{28};

constexpr bool IsPeerOp(uint8_t op) {
  return op >= static_cast<uint8_t>(kPeerConnect) && op <= static_cast<uint8_t>(kPeerNotice);
}

struct PeerSqEntry {
  uint64_t token;        // offset  0
  uint8_t op;            // offset  8
  uint8_t qos_class;     // offset  9
  uint16_t flags;        // offset 10, 0
  uint32_t length;       // offset 12
  ChunkId id;            // offset 16
  uint32_t slab_offset;  // offset 32, multiple of 4096
  uint32_t peer;         // offset 36
  uint32_t chunk_offset; // offset 40; kPeerPut, kPeerDelete: map epoch (RPC.md), other ops: 0
  uint32_t deadline_us;  // offset 44, from now; 0 = none
  std::array<uint8_t, 16> trace;  // offset 48
};
static_assert(sizeof(PeerSqEntry) == sizeof(SqEntry));
static_assert(offsetof(PeerSqEntry, slab_offset) == 32 && offsetof(PeerSqEntry, peer) == 36);
static_assert(offsetof(PeerSqEntry, deadline_us) == 44 && offsetof(PeerSqEntry, trace) == 48);

/// Of PeerPage.moved.
inline constexpr uint32_t kPlacementGroups = 4096;
inline constexpr uint32_t kMovedPages = 4;
inline constexpr uint32_t kMovedPerPage = kPlacementGroups / kMovedPages;

struct PeerCounters {
  static constexpr size_t kSamples = 256;
  uint64_t requests;        //    0
  uint64_t path_errors;     //    8, see ChunkSession.stats
  uint64_t answers;         //   16
  uint64_t bytes_sent;      //   24
  uint64_t bytes_received;  //   32
  int64_t retransmits;      //   40, -1 = not known
  uint64_t sessions;        //   48, listener: authenticated and open
  uint64_t refused;         //   56, listener: peers that were, the last one told in `message`
  std::array<uint32_t, kSamples> rtt_us;  // 64, of answer n at n % 256
};
static_assert(sizeof(PeerCounters) == 64 + 4 * PeerCounters::kSamples);

/// What a node tells whoever asks, without being asked itself: 24 bytes, in two places by turns. The writer fills
/// the place of the next version, (version + 1) % 2, and then counts; so a reader never waits for a writer that the
/// system has put to sleep: what it has read stands unless the version has moved on meanwhile. 0: nothing yet.
struct NoticeBoard {
  static constexpr size_t kWords = 6;
  alignas(4) uint32_t version;
  alignas(4) uint32_t words[2][kWords];
};
static_assert(sizeof(NoticeBoard) == 52);
using Notice = std::array<uint32_t, NoticeBoard::kWords>;

/// By one thread at a time; `version` and `words` are written by nobody else.
inline void Post(NoticeBoard& board, const Notice& notice) {
  const uint32_t next = std::atomic_ref(board.version).load(std::memory_order_relaxed) + 1;
  for (size_t i = 0; i < notice.size(); ++i) std::atomic_ref(board.words[next % 2][i]).store(notice[i]);
  // 0 says that there is nothing: the count goes round it.
  std::atomic_ref(board.version).store(next == 0 ? 2 : next);
}

/// False: nothing was posted, or it changed faster than it could be read.
[[nodiscard]] inline bool ReadNotice(NoticeBoard& board, Notice& notice) {
  for (int attempt = 0; attempt < 8; ++attempt) {
    const uint32_t version = std::atomic_ref(board.version).load();
    if (version == 0) return false;
    for (size_t i = 0; i < notice.size(); ++i) {
      notice[i] = std::atomic_ref(board.words[version % 2][i]).load();
    }
    if (std::atomic_ref(board.version).load() == version) return true;
  }
  return false;
}

/// A request with a trace id that a listener has answered.
struct ServedRequest {
  uint32_t sequence;              //  0, its turn + 1 once it stands, 0 while it is written
  uint32_t request;               //  4, request id of the frame
  uint64_t start_us;              //  8, monotonic clock, when its header had come
  std::array<uint8_t, 16> trace;  // 16
  ChunkId chunk;                  // 32
  uint32_t duration_us;           // 48, until the answer was on its way
  uint32_t length;                // 52, payload bytes, of either direction
  uint8_t op;                     // 56, as in a frame
  uint8_t status;                 // 57, ErrorCode
  uint8_t qos_class;              // 58
  uint8_t reserved[5];
};
static_assert(sizeof(ServedRequest) == 64);
static_assert(offsetof(ServedRequest, chunk) == 32 && offsetof(ServedRequest, op) == 56);

/// The last of them, each in the place of its turn.
struct ServedBoard {
  static constexpr size_t kPlaces = 63;
  alignas(64) uint32_t next;  // turns taken so far
  uint8_t reserved[60];
  std::array<ServedRequest, kPlaces> places;
};
static_assert(sizeof(ServedBoard) == 4096 && offsetof(ServedBoard, places) == 64);

struct PeerPage {
  // Asked for.
  char kind[16];                          //   0, of the transport
  char address[240];                      //  16, as Transport::Connect takes it; after: as bound
  std::array<uint8_t, 16> node;           // 256
  std::array<uint8_t, 16> region;         // 272
  std::array<std::byte, 32> region_key;   // 288, zeroed as soon as it was read
  uint64_t map_epoch;                     // 320, listener: may change while it lives
  std::array<uint8_t, 16> expected_node;  // 328
  uint32_t expects_node;                  // 344
  uint32_t timeout_ms;                    // 348, of connecting or greeting
  uint32_t keep_alive_ms;                 // 352
  uint32_t request_credits;               // 356, listener
  uint32_t byte_credits;                  // 360, listener
  uint32_t max_sessions;                  // 364, listener
  char network[16];                       // 368, ipoib: interface to which sockets are bound
  uint32_t seal;                          // 384, SealMode (seal.h): 0 whenever both can, 1 always, 2 never
  /// 388, listener: slab offsets of pages with the epoch, u32, since which each group of chunks is where it
  /// is now, in their order; they may change while it lives. 0: none.
  std::array<uint32_t, kMovedPages> moved;
  /// 404, listener: slab offset of a page, a ServedBoard. 0: nobody wants to know.
  uint32_t served;
  uint8_t reserved0[512 - 408];
  // Answered.
  std::array<uint8_t, 16> peer_node;    //  512
  std::array<uint8_t, 16> peer_region;  //  528
  uint64_t peer_epoch;                  //  544
  uint64_t capabilities;                //  552, that both have and use: the bit of the cipher
  uint32_t version;                     //  560
  uint8_t reserved1[12];
  char message[448];      //  576, why, when something failed; listener: of the last refusal
  PeerCounters counters;  // 1024
  NoticeBoard board;      // 2112, listener: written by its owner at any time
  uint8_t reserved2[4096 - 2112 - sizeof(NoticeBoard)];
};
static_assert(sizeof(PeerPage) == 4096);
static_assert(offsetof(PeerPage, map_epoch) == 320 && offsetof(PeerPage, max_sessions) == 364);
static_assert(offsetof(PeerPage, network) == 368 && offsetof(PeerPage, seal) == 384);
static_assert(offsetof(PeerPage, served) == 404);
static_assert(offsetof(PeerPage, moved) == 388 && sizeof(uint32_t) * kMovedPerPage == 4096);
static_assert(offsetof(PeerPage, peer_node) == 512 && offsetof(PeerPage, version) == 560);
static_assert(offsetof(PeerPage, message) == 576 && offsetof(PeerPage, counters) == 1024);
static_assert(offsetof(PeerPage, board) == 2112);

}  // namespace pando

#endif  // PANDO_PEER_LAYOUT_H_
