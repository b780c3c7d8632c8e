#include "rpc/transport/transport_laws.h"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace pando::rpc {

TEST_P(TransportLaws, FramesOfAllSizesArriveWhole) {
  Connect();
  const std::vector<uint32_t> sizes = {0,    1,     63,    64,    65,      4095,    4096,
                                       4097, 65535, 65536, 65537, 1 << 20, (4 << 20) - 1, 4 << 20};
  for (uint32_t i = 0; i < sizes.size(); ++i) {
    ASSERT_TRUE(client->Send(i, sizes[i]));
    ASSERT_TRUE(server->Send(i, sizes[i], 7));
    ASSERT_TRUE(Until([&] {
      return server->received.size() > i && client->received.size() > i && client->done > i &&
             server->done > i;
    })) << sizes[i];
    for (const Endpoint* side : {server, client.get()}) {
      EXPECT_EQ(side->received[i].id, i);
      EXPECT_EQ(side->received[i].bytes, sizes[i]);
      EXPECT_TRUE(side->received[i].sound) << sizes[i];
    }
  }
}

TEST_P(TransportLaws, HeadersComeInTheOrderOfSending) {
  Connect();
  std::minstd_rand engine(20261121);
  const auto random = [&] { return static_cast<uint32_t>(engine()); };
  std::vector<uint32_t> headers;
  server->on_header = [&](const Header& header) {
    if (headers.empty() || headers.back() != header.id) headers.push_back(header.id);
  };
  constexpr uint32_t kFrames = 3000;
  uint32_t next = 0;
  ASSERT_TRUE(Until([&] {
    while (next < kFrames && client->sent() - client->done < 8) {
      const uint32_t bytes = random() % 50 == 0 ? random() % (300U << 10U) : random() % 9000;
      if (!client->Send(next, bytes)) break;
      ++next;
    }
    if (server->starved) {
      server->starved = false;
      server->connection().Resume();
    }
    return server->received.size() == kFrames;
  }));
  ASSERT_EQ(headers.size(), kFrames);
  for (uint32_t i = 0; i < kFrames; ++i) ASSERT_EQ(headers[i], i);
  for (const Endpoint::Frame& frame : server->received) ASSERT_TRUE(frame.sound) << frame.id;
}

TEST_P(TransportLaws, AReceiverWithoutMemoryHoldsTheSenderBackAndLosesNothing) {
  Connect();
  server->hold = true;
  constexpr uint32_t kFrames = 4000;
  uint32_t next = 0;
  const auto send = [&] {
    while (next < kFrames && client->sent() - client->done < 8) {
      if (!client->Send(next, next % 5 == 0 ? 100'000 : 4000)) break;
      ++next;
    }
  };
  // The sender gets some way into its buffers, and not to the end.
  for (const uint64_t until = NowUs() + 300'000; NowUs() < until;) {
    send();
    server_driver->Poll(NowUs());
    client_driver->Poll(NowUs());
  }
  EXPECT_LT(next, kFrames);
  EXPECT_TRUE(server->received.empty());
  EXPECT_EQ(server->waits, 1U) << "a header is offered once until Resume";
  server->hold = false;
  server->connection().Resume();
  ASSERT_TRUE(Until([&] {
    send();
    return server->received.size() == kFrames;
  }));
  for (const Endpoint::Frame& frame : server->received) ASSERT_TRUE(frame.sound) << frame.id;
}

TEST_P(TransportLaws, WhatIsSkippedDoesNotDisturbWhatFollows) {
  Connect();
  server->skip = true;
  for (uint32_t i = 0; i < 6; ++i) ASSERT_TRUE(client->Send(i, 70'001 * i));
  ASSERT_TRUE(Until([&] { return server->skipped == 6 && client->done == 6; }));
  server->skip = false;
  ASSERT_TRUE(client->Send(99, 12'345));
  ASSERT_TRUE(Until([&] { return server->received.size() == 1; }));
  EXPECT_TRUE(server->received[0].sound);
}

TEST_P(TransportLaws, AfterAPayloadWasDroppedOnItsWayNothingWritesToItsMemory) {
  Connect();
  int token = 0;
  EXPECT_FALSE(client->connection().DropPayload(&token)) << "nothing is on its way";
  ASSERT_TRUE(server->Send(1, 4 << 20));
  ASSERT_TRUE(Until([&] { return client->arriving() > 0 || !client->received.empty(); }));
  EXPECT_FALSE(client->connection().DropPayload(&token)) << "another's payload";
  std::byte* const memory = client->arriving() > 0 ? client->DropArriving() : nullptr;
  // Where a device writes by itself the payload comes as if nothing had been said.
  ASSERT_TRUE(memory != nullptr || client_driver->name() == "rdma");
  if (memory != nullptr) std::memset(memory, 0x77, Arena::kBlockBytes);
  ASSERT_TRUE(server->Send(2, 70'001));
  ASSERT_TRUE(Until([&] { return !client->received.empty() && client->received.back().id == 2; }));
  for (const Endpoint::Frame& frame : client->received) EXPECT_TRUE(frame.sound) << frame.id;
  EXPECT_EQ(client->received.size() + client->dropped, 2U);
  if (memory == nullptr) return;
  EXPECT_EQ(client->dropped, 1U);
  EXPECT_TRUE(std::all_of(memory, memory + Arena::kBlockBytes,
                          [](std::byte byte) { return byte == std::byte{0x77}; }));
  client_arena.Give(memory);
}

TEST_P(TransportLaws, AFlushingCloseDeliversWhatWasSent) {
  Connect();
  for (uint32_t i = 0; i < 6; ++i) ASSERT_TRUE(client->Send(i, 1 << 20));
  client->connection().Close(true);
  ASSERT_TRUE(Until([&] { return client->closed.has_value() && server->closed.has_value(); }));
  EXPECT_EQ(server->received.size(), 6U);
  EXPECT_EQ(*client->closed, ErrorCode::kOk) << client->why;
  EXPECT_EQ(*server->closed, ErrorCode::kOk) << server->why;
  EXPECT_EQ(client->done, 6U);
}

TEST_P(TransportLaws, AClosedConnectionGivesEveryFrameBack) {
  Connect();
  server->hold = true;
  for (uint32_t i = 0; i < 8; ++i) ASSERT_TRUE(client->Send(i, 4 << 20));
  ASSERT_TRUE(Until([&] { return server->waits > 0; }));
  client->connection().Close(false);
  ASSERT_TRUE(Until([&] { return client->closed.has_value(); }));
  EXPECT_EQ(client->done, 8U);
  EXPECT_TRUE(client->each_done_once());
  server->hold = false;
  server->connection().Resume();
  ASSERT_TRUE(Until([&] { return server->closed.has_value(); }));
}

TEST_P(TransportLaws, OnlyAFrameOfWhichNothingWasSentCanBeWithdrawn) {
  Connect();
  server->hold = true;
  for (uint32_t i = 0; i < 12; ++i) ASSERT_TRUE(client->Send(i, 4 << 20));
  ASSERT_TRUE(Until([&] { return server->waits > 0; }));
  EXPECT_FALSE(client->connection().Withdraw(client->frame(0)));
  if (client->connection().Withdraw(client->frame(11))) {
    client->frame(11)->done(client->frame(11));  // so that every one is given back once
  }
  client->connection().Close(false);
  ASSERT_TRUE(Until([&] { return client->closed.has_value(); }));
  EXPECT_TRUE(client->each_done_once());
}

TEST_P(TransportLaws, NobodyThereIsUnreachable) {
  Endpoint lonely(client_arena);
  Result<std::unique_ptr<Connection>> made = client_driver->Connect(GetParam().empty_address());
  ASSERT_TRUE(made.ok());
  lonely.Take(std::move(made).value());
  ASSERT_TRUE(Until([&] { return lonely.closed.has_value(); }));
  EXPECT_EQ(*lonely.closed, ErrorCode::kPeerUnreachable) << lonely.why;
  EXPECT_FALSE(lonely.open);
}

TEST_P(TransportLaws, WhoIsNotTakenIsHungUpOn) {
  reception.refuse = true;
  client = std::make_unique<Endpoint>(client_arena);
  client->Take(client_driver->Connect(acceptor->address()).value());
  ASSERT_TRUE(Until([&] { return client->closed.has_value(); }));
}

TEST_P(TransportLaws, ManyConnectionsAtOnceDoNotMix) {
  std::vector<std::unique_ptr<Endpoint>> clients;
  for (uint32_t i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<Endpoint>(client_arena));
    clients.back()->Take(client_driver->Connect(acceptor->address()).value());
  }
  ASSERT_TRUE(Until([&] { return reception.guests.size() == 8; }));
  ASSERT_TRUE(Until([&] {
    for (auto& one : clients) {
      if (!one->open) return false;
    }
    return true;
  }));
  for (uint32_t round = 0; round < 50; ++round) {
    for (uint32_t i = 0; i < 8; ++i) ASSERT_TRUE(clients[i]->Send(round * 8 + i, 3000 + i));
    ASSERT_TRUE(Until([&] {
      for (auto& guest : reception.guests) {
        if (guest->received.size() <= round) return false;
      }
      return true;
    }));
  }
  for (auto& guest : reception.guests) {
    const uint32_t of = guest->received[0].id % 8;
    for (const Endpoint::Frame& frame : guest->received) {
      EXPECT_EQ(frame.id % 8, of);
      EXPECT_EQ(frame.bytes, 3000 + of);
      EXPECT_TRUE(frame.sound);
    }
  }
  for (auto& one : clients) one->connection().Close(false);
  ASSERT_TRUE(Until([&] {
    for (auto& one : clients) {
      if (!one->closed) return false;
    }
    return true;
  }));
}

// Whoever waits for memory to send from has it in `done`, and would sleep on a Poll that says 0: nothing
// that happens later wakes a side that has nothing under way.
TEST_P(TransportLaws, ATurnThatGivesAFrameBackSaysThatItDidSomething) {
  Connect();
  for (uint32_t i = 0; i < 50; ++i) {
    const size_t before = client->done;
    ASSERT_TRUE(client->Send(i, i % 2 == 0 ? 64 : 100'000));
    ASSERT_TRUE(Until([&] {
      const size_t done = client->done;
      const size_t work = client_driver->Poll(NowUs());
      EXPECT_TRUE(work > 0 || client->done == done) << "frame " << i;
      return client->done > before;
    }));
    client->Forget();
  }
}

namespace {

/// One reactor on a thread of its own: turns, and sleeps when nothing is to do.
void RunReactor(TransportDriver& driver, const std::function<bool()>& stop,
                std::atomic<int>* timeouts) {
  while (!stop()) {
    if (driver.Poll(NowUs()) > 0 || !driver.Arm()) continue;
    pollfd waiting{driver.event_fd(), POLLIN, 0};
    const uint64_t since = NowUs();
    // Whoever slept for longer than was asked for was not run at all (SIGSTOP, a machine that was halted), and
    // neither was the side that was to wake it.
    if (::poll(&waiting, 1, 2000) == 0 && NowUs() - since < 2'500'000) timeouts->fetch_add(1);
  }
}

}  // namespace

TEST_P(TransportLaws, NoWakeUpIsLostBetweenSleepersThatAnswerEachOther) {
  Connect();
  const uint32_t rounds = GetParam().wake_ups;
  std::atomic<int> timeouts{0};
  std::atomic<bool> over{false};
  server->on_payload = [&](const Endpoint::Frame& frame) {
    server->Send(frame.id, 64);
    server->Forget();
  };
  client->on_payload = [&](const Endpoint::Frame& frame) {
    client->Forget();
    if (frame.id + 1 < rounds) {
      client->Send(frame.id + 1, 64);
    } else {
      over = true;
    }
  };
  client->Send(0, 64);
  const auto stop = [&] { return over.load(); };
  std::thread reactor([&] { RunReactor(*server_driver, stop, &timeouts); });
  RunReactor(*client_driver, stop, &timeouts);
  reactor.join();
  EXPECT_EQ(client->received.size(), rounds);
  // The one that is not told of the end sleeps once for its whole time.
  EXPECT_LE(timeouts.load(), 1);
}

TEST_P(TransportLaws, ALongStreamArrivesAsItWasSent) {
  Connect();
  const uint64_t bytes = GetParam().stream_bytes;
  std::atomic<int> timeouts{0};
  std::atomic<bool> over{false};
  uint32_t damaged = 0;
  server->on_payload = [&](const Endpoint::Frame& frame) {
    damaged += frame.sound ? 0 : 1;
    server->received.clear();
    if (server->bytes_received >= bytes) over = true;
  };
  uint64_t sent = 0;
  uint32_t id = 0;
  const auto stop = [&] {
    client->Forget();
    while (sent < bytes && client->Send(id++, 1 << 20)) sent += 1 << 20;
    return over.load();
  };
  std::thread reactor([&] { RunReactor(*server_driver, [&] { return over.load(); }, &timeouts); });
  RunReactor(*client_driver, stop, &timeouts);
  reactor.join();
  EXPECT_EQ(server->bytes_received, bytes);
  EXPECT_EQ(damaged, 0U);
  // The one that is not told of the end sleeps once for its whole time. A few more are the other side's, which may get
  // no processor for so long on a busy machine; a wake-up that is lost now and then would make hundreds.
  EXPECT_LE(timeouts.load(), 8);
}

}  // namespace pando::rpc
