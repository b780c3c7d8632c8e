// Two data planes of one process over tcp, asked through their ports.
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "pando/crc32c.h"
#include "support/peer_node.h"

namespace pando {
namespace {

struct Shape {
  uint32_t reactors;
  WaitMode wait;
};

class PeerTest : public testing::TestWithParam<Shape> {
 protected:
  PeerTest() : server_(Options(1)), client_(Options(2)) {
    listener_ = server_.Listen(0);
    EXPECT_NE(listener_, 0U);
    address_ = server_.Page(0).address;
    peer_ = client_.Connect(0, address_);
    EXPECT_NE(peer_, 0U) << client_.Page(0).message;
  }
  static PeerNodeOptions Options(uint8_t node) {
    PeerNodeOptions options;
    options.node = node;
    options.reactors = GetParam().reactors;
    options.wait = GetParam().wait;
    return options;
  }

  PeerNode server_;
  PeerNode client_;
  uint32_t listener_ = 0;
  uint32_t peer_ = 0;
  std::string address_;
};

TEST_P(PeerTest, TheGreetingTellsWhoIsThere) {
  const PeerPage& page = client_.Page(0);
  EXPECT_EQ(page.peer_node[0], 1);
  EXPECT_EQ(page.peer_region[0], 9);
  EXPECT_EQ(page.peer_epoch, 5U);
  EXPECT_EQ(page.version, 1U);
  EXPECT_NE(page.capabilities, 0U) << "tcp is sealed unless told otherwise";
  for (const std::byte byte : page.region_key) EXPECT_EQ(byte, std::byte{0});
}

TEST_P(PeerTest, ChunksOfEverySizeGoThereAndComeBack) {
  const std::vector<size_t> lengths = {1,     100,    4095,    4096,    4097,          20000,
                                       65536, 100000, 1 << 20, 3000001, kMaxChunkBytes};
  for (size_t i = 0; i < lengths.size(); ++i) {
    ASSERT_EQ(client_.Put(peer_, i, lengths[i]), ErrorCode::kOk) << lengths[i];
  }
  for (size_t i = 0; i < lengths.size(); ++i) {
    EXPECT_TRUE(client_.IsWhole(peer_, i, lengths[i])) << lengths[i];
  }
}

TEST_P(PeerTest, APutTellsTheCrcOfTheStoreAndAGetThatOfTheIndex) {
  const Bytes bytes = MakeBytes(3, 70000);
  const CqEntry put = client_.Call(client_.PutEntry(peer_, 3, 70000));
  EXPECT_EQ(put.crc32c, Crc32c(bytes));
  EXPECT_EQ(put.chunk_length, 70000U);
  const CqEntry part = client_.Call(client_.GetEntry(peer_, 3, 65000, 1000));
  EXPECT_EQ(part.status, 0U);
  EXPECT_EQ(part.length, 1000U);
  EXPECT_EQ(part.crc32c, Crc32c(bytes));
  EXPECT_EQ(std::memcmp(client_.slab().data() + (8U << 20U), bytes.data() + 65000, 1000), 0);
}

TEST_P(PeerTest, ErrorsOfTheStoreComeBackAsTheyAre) {
  EXPECT_EQ(client_.Put(peer_, 1, 500), ErrorCode::kOk);
  PeerSqEntry conflict = client_.PutEntry(peer_, 2, 500);
  conflict.id = MakeId(1);
  EXPECT_EQ(client_.Call(conflict).status, static_cast<uint32_t>(ErrorCode::kConflict));
  EXPECT_EQ(client_.Call(client_.GetEntry(peer_, 9)).status,
            static_cast<uint32_t>(ErrorCode::kChunkNotFound));
  EXPECT_EQ(client_.Call(client_.GetEntry(peer_, 1, 501)).status,
            static_cast<uint32_t>(ErrorCode::kInvalidArgument));
  EXPECT_EQ(client_.Call(client_.GetEntry(peer_, 1, 500)).status, 0U);
  PeerSqEntry has = PeerNode::Entry(kPeerHas, peer_);
  has.id = MakeId(1);
  const CqEntry there = client_.Call(has);
  EXPECT_EQ(there.status, 0U);
  EXPECT_EQ(there.chunk_length, 500U);
  PeerSqEntry gone = PeerNode::Entry(kPeerDelete, peer_);
  gone.id = MakeId(1);
  EXPECT_EQ(client_.Call(gone).status, 0U);
  EXPECT_EQ(client_.Call(gone).status, static_cast<uint32_t>(ErrorCode::kChunkNotFound));
}

TEST_P(PeerTest, ANoticeIsToldAsItWasPostedLastAndNeverInHalf) {
  const PeerSqEntry ask = PeerNode::Entry(kPeerNotice, peer_);
  EXPECT_EQ(client_.Call(ask).status, static_cast<uint32_t>(ErrorCode::kChunkNotFound));
  // All words of each notice are one number.
  constexpr uint32_t kCount = 20000;
  std::thread writer([board = &server_.Page(0).board] {
    for (uint32_t number = 1; number <= kCount; ++number) {
      Notice notice;
      notice.fill(number);
      Post(*board, notice);
    }
  });
  uint32_t last = 0;
  for (int i = 0; i < 300; ++i) {
    const CqEntry answer = client_.Call(ask);
    if (answer.status != 0) continue;  // it changed faster than it could be read
    Notice notice;
    std::memcpy(notice.data(), answer.id.bytes.data(), sizeof answer.id);
    notice[4] = answer.chunk_length;
    notice[5] = answer.crc32c;
    for (const uint32_t word : notice) ASSERT_EQ(word, notice[0]);
    ASSERT_GE(notice[0], last);
    last = notice[0];
  }
  writer.join();
  const CqEntry answer = client_.Call(ask);
  EXPECT_EQ(answer.status, 0U);
  EXPECT_EQ(answer.crc32c, kCount);
}

TEST(Notice, TheCountGoesRoundItsZero) {
  NoticeBoard board = {};
  board.version = 0xFFFFFFFE;
  Notice seen;
  for (uint32_t number = 1; number <= 4; ++number) {
    Notice notice;
    notice.fill(number);
    Post(board, notice);
    ASSERT_TRUE(ReadNotice(board, seen));
    EXPECT_EQ(seen, notice);
  }
}

TEST_P(PeerTest, AListingIsContinuedWhereItStopped) {
  std::vector<ChunkId> expected;
  for (uint64_t i = 0; i < 50; ++i) {
    ASSERT_EQ(client_.Put(peer_, i, 40), ErrorCode::kOk);
    expected.push_back(MakeId(i));
  }
  std::sort(expected.begin(), expected.end());
  std::vector<ChunkId> seen;
  PeerSqEntry entry = PeerNode::Entry(kPeerList, peer_);
  entry.length = 7;
  for (;;) {
    const CqEntry completion = client_.Call(entry);
    ASSERT_EQ(completion.status, 0U);
    for (uint32_t i = 0; i < completion.length; ++i) {
      ListRecord record;
      std::memcpy(&record, client_.slab().data() + i * sizeof record, sizeof record);
      seen.push_back(record.id);
    }
    if (completion.value == 0) break;
    entry.id = completion.id;
  }
  EXPECT_EQ(seen, expected);
  const CqEntry stat = client_.Call(PeerNode::Entry(kPeerStat, peer_));
  EXPECT_EQ(stat.length, sizeof(StoreStats));
  StoreStats stats;
  std::memcpy(&stats, client_.slab().data(), sizeof stats);
  EXPECT_EQ(stats.chunks, 50U);
}

TEST_P(PeerTest, ManyRequestsMoreThanTheCreditsAreAllAnswered) {
  constexpr uint64_t kCount = 3000;
  constexpr size_t kSlots = 500;  // of 64 KiB; 64 requests and 16 MiB are granted
  std::vector<uint64_t> tokens(kSlots);
  for (uint64_t i = 0; i < kCount; ++i) {
    const size_t slot = i % kSlots;
    if (tokens[slot] != 0) {
      ASSERT_EQ(client_.Wait(tokens[slot]).status, 0U);
    }
    tokens[slot] = client_.Push(client_.PutEntry(peer_, i, 1 + i * 37 % 65536,
                                                 static_cast<uint32_t>(slot * 65536)));
  }
  for (const uint64_t token : tokens) ASSERT_EQ(client_.Wait(token).status, 0U);
  for (uint64_t i = 0; i < kCount; i += 101) {
    EXPECT_TRUE(client_.IsWhole(peer_, i, 1 + i * 37 % 65536)) << i;
  }
  EXPECT_GE(client_.Page(0).counters.requests, kCount);
}

TEST_P(PeerTest, ClosingLetsWhatIsUnderWayFinish) {
  std::vector<uint64_t> tokens;
  for (uint64_t i = 0; i < 200; ++i) {
    tokens.push_back(
        client_.Push(client_.PutEntry(peer_, i, 8000, static_cast<uint32_t>(i * 8192))));
  }
  const uint64_t ended = client_.Push(PeerNode::Entry(kPeerEnded, peer_));
  client_.ClosePeer(peer_, 5000);
  for (const uint64_t token : tokens) EXPECT_EQ(client_.Wait(token).status, 0U);
  const CqEntry end = client_.Wait(ended);
  EXPECT_EQ(end.status, 0U);
  EXPECT_EQ(end.value, 0U);
  EXPECT_EQ(client_.Put(peer_, 1, 1), ErrorCode::kClosed);
}

TEST_P(PeerTest, AListenerThatClosesLetsItsSessionsFinish) {
  const uint64_t ended = client_.Push(PeerNode::Entry(kPeerEnded, peer_));
  std::vector<uint64_t> tokens;
  for (uint64_t i = 0; i < 60; ++i) {
    tokens.push_back(
        client_.Push(client_.PutEntry(peer_, i, 8000, static_cast<uint32_t>(i * 8192))));
  }
  ASSERT_EQ(client_.Wait(tokens[0]).status, 0U);
  server_.ClosePeer(listener_, 5000);
  for (size_t i = 1; i < tokens.size(); ++i) {
    const auto status = static_cast<ErrorCode>(client_.Wait(tokens[i]).status);
    EXPECT_TRUE(status == ErrorCode::kOk || status == ErrorCode::kPeerUnreachable)
        << ErrorCodeName(status);
  }
  EXPECT_EQ(client_.Wait(ended).value, 1U);  // by the peer
  EXPECT_EQ(client_.Put(peer_, 1, 1), ErrorCode::kPeerUnreachable);
  client_.ClosePeer(peer_);
  EXPECT_EQ(client_.Connect(1, address_), 0U);
  EXPECT_EQ(client_.last_status, ErrorCode::kPeerUnreachable);
}

TEST_P(PeerTest, APlaneThatClosesUnderLoadSettlesEveryRequest) {
  std::vector<uint64_t> tokens;
  for (uint64_t i = 0; i < 200; ++i) {
    tokens.push_back(
        client_.Push(client_.PutEntry(peer_, i, 8000, static_cast<uint32_t>(i * 8192))));
  }
  server_.Close();
  for (const uint64_t token : tokens) {
    const auto status = static_cast<ErrorCode>(client_.Wait(token).status);
    EXPECT_TRUE(status == ErrorCode::kOk || status == ErrorCode::kPeerUnreachable)
        << ErrorCodeName(status);
  }
}

TEST_P(PeerTest, APortThatClosesUnderLoadEndsItsSessions) {
  for (uint64_t i = 0; i < 200; ++i) {
    client_.Push(client_.PutEntry(peer_, i, 100000, static_cast<uint32_t>(i * 102400)));
  }
  client_.Push(PeerNode::Entry(kPeerEnded, peer_));
  client_.Close();  // must neither hang nor leave anything behind
}

std::string NameOf(const testing::TestParamInfo<Shape>& tested) {
  constexpr std::array<const char*, 3> kWaits = {"interrupt", "adaptive", "busy"};
  return std::string(kWaits[static_cast<size_t>(tested.param.wait)]) +
         std::to_string(tested.param.reactors);
}

INSTANTIATE_TEST_SUITE_P(Reactors, PeerTest,
                         testing::Values(Shape{1, WaitMode::kAdaptive},
                                         Shape{1, WaitMode::kInterrupt},
                                         Shape{3, WaitMode::kInterrupt}),
                         NameOf);

struct Refusal {
  const char* what;
  PeerNodeOptions client;
  uint8_t expects_node;
};

TEST(PeerGreeting, StrangersAndOthersAreRefused) {
  PeerNode server;
  ASSERT_NE(server.Listen(0), 0U);
  const std::string address = server.Page(0).address;
  const std::vector<Refusal> cases = {
      {"another key", {.node = 2, .key = 8}, 0},
      {"another region", {.node = 2, .region = 8}, 0},
      {"another node than expected", {.node = 2}, 4},
  };
  for (const Refusal& tested : cases) {
    PeerNode client(tested.client);
    client.Fill(0, address);
    client.Page(0).expects_node = tested.expects_node != 0 ? 1 : 0;
    client.Page(0).expected_node.fill(tested.expects_node);
    EXPECT_EQ(client.Open(kPeerConnect, 0), 0U) << tested.what;
    EXPECT_EQ(client.last_status, ErrorCode::kPeerRefused) << tested.what;
    EXPECT_STRNE(client.Page(0).message, "") << tested.what;
  }
}

TEST(PeerFaults, B10AnErrorOfTheDeviceComesBackAsOneAndHarmsNothingElse) {
  PeerNodeOptions broken;
  broken.faulty = true;
  for (uint64_t after = 0; after < 200; ++after) {
    // Which read of the server is the one of the chunk is found out, not assumed.
    broken.faults.faults = {{FaultKind::kIoError, FaultOp::kRead, after, 1}};
    broken.cache_bytes = 0;
    PeerNode server(broken);
    PeerNode replica({.node = 3});
    PeerNode client({.node = 2});
    ASSERT_NE(server.Listen(0), 0U);
    ASSERT_NE(replica.Listen(0), 0U);
    const uint32_t one = client.Connect(0, server.Page(0).address);
    const uint32_t other = client.Connect(1, replica.Page(0).address);
    ASSERT_NE(one, 0U);
    ASSERT_NE(other, 0U);
    for (uint64_t i = 0; i < 4; ++i) {
      ASSERT_EQ(client.Put(one, i, 100'000), ErrorCode::kOk);
      ASSERT_EQ(client.Put(other, i, 100'000), ErrorCode::kOk);
    }
    int failed = 0;
    for (uint64_t i = 0; i < 4; ++i) {
      const auto status = static_cast<ErrorCode>(client.Call(client.GetEntry(one, i)).status);
      if (status == ErrorCode::kOk) continue;
      ++failed;
      EXPECT_EQ(status, ErrorCode::kIoError) << ErrorCodeName(status);
      EXPECT_TRUE(client.IsWhole(other, i, 100'000)) << "the other replica";
      EXPECT_TRUE(client.IsWhole(one, i, 100'000)) << "an error that has passed";
    }
    if (failed == 0) continue;
    EXPECT_EQ(failed, 1);
    for (uint64_t i = 0; i < 4; ++i) EXPECT_TRUE(client.IsWhole(one, i, 100'000));
    return;
  }
  FAIL() << "no read of a chunk met the error";
}

TEST(PeerFaults, B10AWriteThatFailedIsNotAcknowledgedAndWhatWasStaysReadable) {
  PeerNodeOptions broken;
  broken.faulty = true;
  broken.cache_bytes = 0;
  broken.faults.faults = {{FaultKind::kIoError, FaultOp::kWrite, 40, 1}};
  PeerNode server(broken);
  PeerNode replica({.node = 3});
  PeerNode client({.node = 2});
  ASSERT_NE(server.Listen(0), 0U);
  ASSERT_NE(replica.Listen(0), 0U);
  const uint32_t one = client.Connect(0, server.Page(0).address);
  const uint32_t other = client.Connect(1, replica.Page(0).address);
  ASSERT_NE(one, 0U);
  ASSERT_NE(other, 0U);
  std::vector<uint64_t> durable;
  std::vector<ErrorCode> errors;
  for (uint64_t i = 0; i < 100; ++i) {
    const ErrorCode status = client.Put(one, i, 10'000);
    ASSERT_EQ(client.Put(other, i, 10'000), ErrorCode::kOk);
    if (status == ErrorCode::kOk) {
      durable.push_back(i);
    } else {
      errors.push_back(status);
    }
  }
  ASSERT_FALSE(errors.empty());
  for (const ErrorCode code : errors) {
    EXPECT_TRUE(code == ErrorCode::kIoError || code == ErrorCode::kDeviceOffline) << ErrorCodeName(code);
  }
  EXPECT_FALSE(durable.empty());
  for (const uint64_t number : durable) EXPECT_TRUE(client.IsWhole(one, number, 10'000)) << number;
  for (uint64_t i = 0; i < 100; ++i) EXPECT_TRUE(client.IsWhole(other, i, 10'000)) << i;
}

TEST(PeerGreeting, EachSideDecidesWhatItTakesUnsealed) {
  constexpr uint32_t kAuto = 0;
  constexpr uint32_t kRequired = 1;
  constexpr uint32_t kOff = 2;
  struct Pair {
    uint32_t server;
    uint32_t client;
    bool opens;
    bool sealed;
  };
  for (const Pair& pair : {Pair{kAuto, kAuto, true, true}, Pair{kAuto, kRequired, true, true},
                           Pair{kRequired, kAuto, true, true}, Pair{kRequired, kRequired, true, true},
                           Pair{kAuto, kOff, true, false}, Pair{kOff, kAuto, true, false},
                           Pair{kOff, kOff, true, false}, Pair{kRequired, kOff, false, false},
                           Pair{kOff, kRequired, false, false},
                           // A number that is not known is taken for the strictest one.
                           Pair{kOff, 77, false, false}}) {
    SCOPED_TRACE(std::to_string(pair.server) + " and " + std::to_string(pair.client));
    PeerNode server({.seal = pair.server});
    PeerNode client({.node = 2, .seal = pair.client});
    ASSERT_NE(server.Listen(0), 0U);
    const uint32_t peer = client.Connect(0, server.Page(0).address);
    EXPECT_EQ(peer != 0, pair.opens);
    if (peer == 0) {
      EXPECT_EQ(client.last_status, ErrorCode::kPeerRefused);
      EXPECT_NE(std::string(client.Page(0).message).find("rpc.encrypt"), std::string::npos)
          << client.Page(0).message;
      continue;
    }
    EXPECT_EQ(client.Page(0).capabilities != 0, pair.sealed);
    EXPECT_EQ(client.Put(peer, 1, 300000), ErrorCode::kOk);
    EXPECT_TRUE(client.IsWhole(peer, 1, 300000));
  }
}

TEST(PeerMaps, B5WhatAnOlderMapPlacesIsRefusedWhereItHasMovedAndNothingElse) {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("pando-map-" + std::to_string(::getpid()))).string();
  for (const char* kind : {"tcp", "shm"}) {
    PeerNode server;
    PeerNode client({.node = 2});
    const std::string address = kind == std::string("shm") ? path : "127.0.0.1:0";
    ASSERT_NE(server.ListenMoving(0, address, kind), 0U) << server.Page(0).message;
    const uint32_t peer = client.Connect(0, server.Page(0).address, kind);
    ASSERT_NE(peer, 0U) << client.Page(0).message;
    const auto put = [&](uint64_t number, size_t length, uint32_t epoch) {
      PeerSqEntry entry = client.PutEntry(peer, number, length);
      entry.chunk_offset = epoch;
      return static_cast<ErrorCode>(client.Call(entry).status);
    };
    const auto remove = [&](uint64_t number, uint32_t epoch) {
      PeerSqEntry entry = PeerNode::Entry(kPeerDelete, peer);
      entry.id = MakeId(number);
      entry.chunk_offset = epoch;
      return static_cast<ErrorCode>(client.Call(entry).status);
    };
    ASSERT_EQ(put(1, 300'000, 5), ErrorCode::kOk);
    server.Moved(0, 1, 7);
    for (const size_t length : {size_t{1}, size_t{5000}, size_t{300'000}, size_t{kMaxChunkBytes}}) {
      EXPECT_EQ(put(1, length, 6), ErrorCode::kStaleMap) << length;
    }
    EXPECT_EQ(remove(1, 6), ErrorCode::kStaleMap);
    EXPECT_TRUE(client.IsWhole(peer, 1, 300'000)) << "reads go on, and nothing was deleted";
    EXPECT_EQ(put(1, 300'000, 7), ErrorCode::kOk);
    EXPECT_EQ(put(1, 300'000, 0), ErrorCode::kOk) << "placed by nobody's map";
    EXPECT_EQ(put(2, 5000, 5), ErrorCode::kOk) << "its group has not moved";
    EXPECT_EQ(remove(1, 8), ErrorCode::kOk);
    const uint32_t second = client.Connect(1, server.Page(0).address, kind);
    ASSERT_NE(second, 0U);
    EXPECT_EQ(client.Page(1).peer_epoch, 7U);
  }
}

TEST(PeerMaps, EpochsOutsideTheSlabAreRefused) {
  PeerNode node;
  node.Fill(0, "127.0.0.1:0");
  node.Page(0).moved = {0xFFFFF000, 0xFFFFF000, 0xFFFFF000, 0xFFFFF000};
  EXPECT_EQ(node.Open(kPeerListen, 0), 0U);
  EXPECT_EQ(node.last_status, ErrorCode::kInvalidArgument);
}

TEST(PeerGreeting, SharedMemoryNeedsNoSealAlsoWhereOneIsRequired) {
  const std::string path = (std::filesystem::temp_directory_path() /
                            ("pando-seal-" + std::to_string(::getpid()))).string();
  PeerNode server({.seal = 1});
  PeerNode client({.node = 2, .seal = 1});
  ASSERT_NE(server.Listen(0, path, "shm"), 0U) << server.Page(0).message;
  const uint32_t peer = client.Connect(0, path, "shm");
  ASSERT_NE(peer, 0U) << client.Page(0).message;
  EXPECT_EQ(client.Page(0).capabilities, 0U);
  EXPECT_EQ(client.Put(peer, 1, 5000), ErrorCode::kOk);
}

TEST(PeerGreeting, OneSessionTooManyIsRefusedWithTheReason) {
  PeerNode server;
  server.Fill(0, "127.0.0.1:0");
  server.Page(0).max_sessions = 2;
  ASSERT_NE(server.Open(kPeerListen, 0), 0U);
  const std::string address = server.Page(0).address;
  PeerNode client({.node = 2});
  const uint32_t first = client.Connect(0, address);
  ASSERT_NE(first, 0U);
  ASSERT_NE(client.Connect(1, address), 0U);
  EXPECT_EQ(client.Connect(2, address), 0U);
  EXPECT_EQ(client.last_status, ErrorCode::kPeerRefused);
  EXPECT_NE(std::string(client.Page(2).message).find("TOO_MANY"), std::string::npos);
  client.ClosePeer(first);
  uint32_t again = 0;
  for (int i = 0; i < 100 && again == 0; ++i) {
    again = client.Connect(2, address);
    if (again == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_NE(again, 0U);
}

TEST(PeerAddress, WhatMakesNoSenseIsRefusedAtOnce) {
  PeerNode node;
  for (const char* address : {"", "nowhere", "127.0.0.1", "127.0.0.1:", ":9", "127.0.0.1:99999x"}) {
    EXPECT_EQ(node.Connect(0, address), 0U) << address;
    EXPECT_EQ(node.last_status, ErrorCode::kInvalidArgument) << address;
  }
  EXPECT_EQ(node.Connect(0, "127.0.0.1:9", "pigeon"), 0U);
  EXPECT_EQ(node.last_status, ErrorCode::kInvalidArgument);
  const uint32_t listener = node.Listen(0, "[::1]:0");
  if (listener != 0) {
    EXPECT_NE(node.Connect(1, node.Page(0).address), 0U);
  }
}

}  // namespace
}  // namespace pando
