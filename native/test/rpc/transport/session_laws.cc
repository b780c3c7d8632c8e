#include "rpc/transport/session_laws.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

namespace pando::rpc {

TEST_P(SessionLaws, LengthsAndFlagsThatLieEndTheSessionWithTheReason) {
  struct Lie {
    const char* what;
    Header header;
    Reason reason;
  };
  Header second = Request(Op::kHello, 0, 4, kFlagPayload);
  Header later = Request(Op::kPing, 1);
  later.version = 2;
  const std::vector<Lie> lies = {
      {"a PUT of more than a chunk, of which no byte follows",
       Request(Op::kPut, 1, 0xFFFFFFFF, kFlagPayload), Reason::kBadLength},
      {"a PUT of one byte more than a chunk", Request(Op::kPut, 1, kMaxChunkBytes + 1, kFlagPayload),
       Reason::kBadLength},
      {"a PUT of nothing", Request(Op::kPut, 1, 0, kFlagPayload), Reason::kBadLength},
      {"a PUT without a payload", Request(Op::kPut, 1, 100), Reason::kBadFlags},
      {"a GET of more than a chunk", Request(Op::kGet, 1, kMaxChunkBytes + 1), Reason::kBadLength},
      {"a LIST without an end", Request(Op::kList, 1, 0xFFFFFFFF), Reason::kBadLength},
      {"a DELETE with a length", Request(Op::kDelete, 1, 8), Reason::kBadLength},
      {"an answer, from a client", Request(Op::kPing, 1, 0, kFlagAnswer), Reason::kBadFlags},
      {"a flag that does not exist", Request(Op::kPing, 1, 0, 4), Reason::kBadFlags},
      {"a version that was not agreed on", later, Reason::kBadVersion},
  };
  for (const Lie& lie : lies) {
    ASSERT_NO_FATAL_FAILURE(Open()) << lie.what;
    hand->Say(lie.header);
    ExpectGoodbye(lie.reason, lie.what);
  }
  ASSERT_NO_FATAL_FAILURE(Open());
  hand->SayBytes(0x47);
  ExpectGoodbye(Reason::kBadHeader, "bytes that are no header");
  ASSERT_NO_FATAL_FAILURE(Open());
  const std::vector<std::byte> four(4);
  hand->Say(second, four);
  ExpectGoodbye(Reason::kBadOrder, "a second greeting");
  ExpectOthersServed();
}

TEST_P(SessionLaws, WhoTakesMoreThanWasGrantedIsSentAway) {
  server = std::make_unique<PeerNode>(PeerNodeOptions{.node = 1, .timeout_ms = kPatienceMs});
  server->Fill(0, GetParam().address(), GetParam().kind);
  server->Page(0).request_credits = 2;
  ASSERT_NE(server->Open(kPeerListen, 0), 0U);
  address = server->Page(0).address;
  ASSERT_NO_FATAL_FAILURE(Open());
  // Some come while others are unanswered; how many depends on the transport, and on the moment.
  std::optional<Hand::Frame> frame;
  for (uint32_t round = 0; round < 200 && (!frame || frame->header.is_answer()); ++round) {
    for (uint32_t id = 1; id <= 64; ++id) hand->Say(Request(Op::kList, 64 * round + id, kMaxListRecords));
    for (uint32_t heard = 0; heard < 64; ++heard) {
      frame = hand->Hear();
      if (!frame || !frame->header.is_answer()) break;
    }
    if (!frame) break;
  }
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->header.op, Op::kGoodbye);
  EXPECT_EQ(frame->header.reason, Reason::kCredits);
  EXPECT_TRUE(hand->HearsTheEnd());
  ExpectOthersServed();
}

TEST_P(SessionLaws, ADamagedPayloadIsNotStoredAndAnUnknownOpIsSkippedAndTheSessionGoesOn) {
  ASSERT_NO_FATAL_FAILURE(Open());
  for (const uint32_t length : {1U, 4096U, 100'000U, GetParam().most_bytes}) {
    const Bytes bytes = MakeBytes(1, length);
    Header put = Request(Op::kPut, 1, length, kFlagPayload);
    put.payload_crc = Crc32c(bytes) ^ 1U;
    hand->Say(put, bytes);
    auto answer = hand->Hear();
    ASSERT_TRUE(answer.has_value()) << length;
    EXPECT_EQ(answer->header.status, static_cast<uint8_t>(ErrorCode::kIoError)) << length;
    EXPECT_EQ(answer->header.reason, Reason::kDamaged) << length;
    hand->Say(Request(Op::kHas, 1));
    answer = hand->Hear();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->header.status, static_cast<uint8_t>(ErrorCode::kChunkNotFound)) << length;
    hand->Say(Request(static_cast<Op>(99), 2, length, kFlagPayload), bytes);
    answer = hand->Hear();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->header.status, static_cast<uint8_t>(ErrorCode::kInvalidArgument)) << length;
    EXPECT_EQ(answer->header.reason, Reason::kBadOp) << length;
    // A good one behind it arrives as it was sent.
    hand->Say(Request(Op::kPut, 100 + length, length, kFlagPayload), bytes);
    answer = hand->Hear();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->header.status, 0) << length;
    EXPECT_EQ(answer->header.answer.chunk_crc, Crc32c(bytes));
  }
  ExpectOthersServed();
}

TEST_P(SessionLaws, AStrangerHearsOneRandomNumberAndNothingElse) {
  Server();
  std::vector<std::vector<std::byte>> numbers;
  for (const auto& [what, who] : std::vector<std::pair<const char*, Identity>>{
           {"another key", IdentityOfHand(2, 8)}, {"no key", IdentityOfHand(2, 0)}}) {
    ASSERT_TRUE(hand->Connect(address)) << what;
    EXPECT_FALSE(hand->Greet(who).has_value()) << what;
    EXPECT_TRUE(hand->HearsTheEnd()) << what;
    EXPECT_EQ(hand->transcript.challenge.size(), kChallengeBytes) << what;
    numbers.push_back(hand->transcript.challenge);
  }
  EXPECT_NE(numbers[0], numbers[1]);
  const std::vector<std::byte> bytes(104);
  const std::vector<std::function<void()>> starts = {
      [&] { hand->SayHello(3, bytes); },
      [&] { hand->SayHello(1, std::span(bytes).first(8)); },
      [&] { hand->Say(Request(Op::kPing, 1)); },
      [&] { hand->Say(Request(Op::kHello, 0, kMaxHelloBytes + 1, kFlagPayload)); },
      [&] { hand->SayBytes(0); },
  };
  for (const auto& start : starts) {
    ASSERT_TRUE(hand->Connect(address));
    start();
    EXPECT_TRUE(hand->HearsTheEnd());
  }
  ExpectOthersServed();
}

TEST_P(SessionLaws, AGreetingThatWasOverheardProvesNothingASecondTime) {
  ASSERT_NO_FATAL_FAILURE(Open());
  const Transcript heard = hand->transcript;
  ASSERT_TRUE(hand->Connect(address));
  hand->SayHello(1, heard.begin);
  const auto challenge = hand->Hear();
  ASSERT_TRUE(challenge.has_value());
  EXPECT_NE(challenge->payload, heard.challenge);
  hand->SayHello(3, heard.introduction);
  EXPECT_TRUE(hand->HearsTheEnd());
  ExpectOthersServed();
}

TEST_P(SessionLaws, OlderAndNewerPeersAreRefusedByAReasonAndOneThatSpeaksBothIsServed) {
  Server();
  for (const auto& [least, most] : std::vector<std::pair<uint8_t, uint8_t>>{{2, 3}, {0, 0}}) {
    ASSERT_TRUE(hand->Connect(address));
    const auto answer = hand->Greet(IdentityOfHand(2), least, most);
    ASSERT_TRUE(answer.has_value()) << int{least};
    EXPECT_EQ(answer->refusal, Reason::kBadVersion);
    EXPECT_EQ(answer->version, 0);
    EXPECT_EQ(answer->version_min, 1);
    EXPECT_TRUE(hand->HearsTheEnd());
  }
  ASSERT_TRUE(hand->Connect(address));
  const auto region = hand->Greet(IdentityOfHand(2, 7, 8));
  ASSERT_TRUE(region.has_value());
  EXPECT_EQ(region->refusal, Reason::kWrongRegion);
  ASSERT_TRUE(hand->Connect(address));
  const auto both = hand->Greet(IdentityOfHand(2), 1, 9);
  ASSERT_TRUE(both.has_value());
  EXPECT_EQ(both->version, 1);
  hand->Say(Request(Op::kPing, 1));
  const auto pong = hand->Hear();
  ASSERT_TRUE(pong.has_value());
  EXPECT_EQ(pong->header.status, 0);
}

TEST_P(SessionLaws, AServerThatLiesIsCaught) {
  const Bytes bytes = MakeBytes(5, 50'000);
  Introduction sound;
  sound.version = 1;
  sound.max_payload_bytes = kMaxChunkBytes;
  sound.request_credits = 16;
  sound.byte_credits = 16U << 20U;
  Introduction newer = sound;
  newer.version = newer.version_min = newer.version_max = 2;
  Introduction mean = sound;
  mean.byte_credits = 1;
  const auto answer_of = [](const Header& asked) {
    Header answer = asked;
    answer.flags = kFlagAnswer;
    answer.answer = {};
    answer.reason = Reason::kNone;
    answer.payload_crc = 0;
    return answer;
  };
  struct Lie {
    const char* what;
    Introduction greeting;
    Identity who;
    ErrorCode connects;
    ErrorCode gets;
    std::function<void(Hand&, const Header&)> answer;
  };
  const Identity own = IdentityOfHand(1);
  const std::vector<Lie> lies = {
      {"knows no key", sound, IdentityOfHand(1, 8), ErrorCode::kPeerRefused, ErrorCode::kOk, {}},
      {"chooses a version that was not offered", newer, own, ErrorCode::kPeerRefused, ErrorCode::kOk, {}},
      {"grants less than a chunk", mean, own, ErrorCode::kPeerRefused, ErrorCode::kOk, {}},
      {"is of another region", sound, IdentityOfHand(1, 7, 8), ErrorCode::kPeerRefused, ErrorCode::kOk, {}},
      {"answers with more than was asked for", sound, own, ErrorCode::kOk, ErrorCode::kProtocolError,
       [&](Hand& to, const Header& asked) {
         Header answer = answer_of(asked);
         answer.flags |= kFlagPayload;
         answer.length = kMaxChunkBytes + 1;
         to.Say(answer);
       }},
      {"answers what nobody asked", sound, own, ErrorCode::kOk, ErrorCode::kProtocolError,
       [&](Hand& to, const Header& asked) {
         Header answer = answer_of(asked);
         answer.id += 1;
         answer.length = 0;
         to.Say(answer);
       }},
      {"answers another op", sound, own, ErrorCode::kOk, ErrorCode::kProtocolError,
       [&](Hand& to, const Header& asked) {
         Header answer = answer_of(asked);
         answer.op = Op::kDelete;
         answer.length = 0;
         to.Say(answer);
       }},
      {"asks", sound, own, ErrorCode::kOk, ErrorCode::kProtocolError,
       [&](Hand& to, const Header&) { to.Say(Request(Op::kPing, 1)); }},
      {"says what was damaged on the way", sound, own, ErrorCode::kOk, ErrorCode::kIoError,
       [&](Hand& to, const Header& asked) {
         Header answer = answer_of(asked);
         answer.flags |= kFlagPayload;
         answer.length = static_cast<uint32_t>(bytes.size());
         answer.answer.chunk_length = answer.length;
         answer.answer.chunk_crc = Crc32c(bytes);
         answer.payload_crc = Crc32c(bytes) ^ 2U;
         to.Say(answer, bytes);
       }},
      {"leaves bytes out", sound, own, ErrorCode::kOk, ErrorCode::kIoError,
       [&](Hand& to, const Header& asked) {
         Header answer = answer_of(asked);
         answer.flags |= kFlagPayload;
         answer.length = 1000;
         answer.answer.chunk_length = static_cast<uint32_t>(bytes.size());
         answer.answer.chunk_crc = Crc32c(bytes);
         to.Say(answer, std::span(bytes).first(1000));
       }},
  };
  for (const Lie& lie : lies) {
    auto listening = driver->Listen(GetParam().address(), *hand);
    ASSERT_TRUE(listening.ok()) << listening.error().message;
    acceptor = std::move(listening).value();
    PeerNode client({.node = 2, .timeout_ms = kPatienceMs});
    client.Fill(0, acceptor->address(), GetParam().kind);
    PeerSqEntry connect = PeerNode::Entry(kPeerConnect);
    connect.slab_offset = static_cast<uint32_t>(PeerNode::kPages);
    const uint64_t connecting = client.Push(connect);
    ASSERT_TRUE(hand->Until([&] { return hand->open; })) << lie.what;
    ASSERT_TRUE(hand->Answer(lie.who, lie.greeting)) << lie.what;
    ASSERT_TRUE(hand->Until([&] { return client.Has(connecting); })) << lie.what;
    const CqEntry connected = client.Wait(connecting);
    EXPECT_EQ(static_cast<ErrorCode>(connected.status), lie.connects) << lie.what;
    if (connected.status == 0 && lie.answer) {
      const uint64_t getting = client.Push(client.GetEntry(static_cast<uint32_t>(connected.value), 5));
      const auto asked = hand->Hear();
      ASSERT_TRUE(asked.has_value()) << lie.what;
      lie.answer(*hand, asked->header);
      ASSERT_TRUE(hand->Until([&] { return client.Has(getting); })) << lie.what;
      EXPECT_EQ(static_cast<ErrorCode>(client.Wait(getting).status), lie.gets) << lie.what;
    }
    hand->Hang();
    acceptor.reset();
  }
}

TEST_P(SessionLaws, AGetThatEndsWhileItsAnswerComesLeavesTheSessionAndItsMemoryAlone) {
  if (GetParam().kind == "rdma") GTEST_SKIP() << "a payload does not come in pieces there";
  auto listening = driver->Listen(GetParam().address(), *hand);
  ASSERT_TRUE(listening.ok()) << listening.error().message;
  acceptor = std::move(listening).value();
  PeerNode client({.node = 2, .timeout_ms = kPatienceMs});
  client.Fill(0, acceptor->address(), GetParam().kind);
  PeerSqEntry connect = PeerNode::Entry(kPeerConnect);
  connect.slab_offset = static_cast<uint32_t>(PeerNode::kPages);
  const uint64_t connecting = client.Push(connect);
  ASSERT_TRUE(hand->Until([&] { return hand->open; }));
  Introduction greeting;
  greeting.version = 1;
  greeting.max_payload_bytes = kMaxChunkBytes;
  greeting.request_credits = 16;
  greeting.byte_credits = 16U << 20U;
  ASSERT_TRUE(hand->Answer(IdentityOfHand(1), greeting));
  ASSERT_TRUE(hand->Until([&] { return client.Has(connecting); }));
  const auto peer = static_cast<uint32_t>(client.Wait(connecting).value);
  const auto pause = [&](int ms) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
    ASSERT_TRUE(hand->Until([&] { return std::chrono::steady_clock::now() >= until; }));
  };
  for (const bool cancelled : {false, true}) {
    const auto memory = client.slab().subspan(8U << 20U, 4096);
    PeerSqEntry slow = client.GetEntry(peer, 5);
    slow.deadline_us = cancelled ? 15'000'000 : 300'000;
    PeerSqEntry later = client.GetEntry(peer, 6, 0, kMaxChunkBytes, 16U << 20U);
    later.deadline_us = 15'000'000;
    const uint64_t getting = client.Push(slow);
    const auto asked = hand->Hear();
    ASSERT_TRUE(asked.has_value());
    const uint64_t waiting = client.Push(later);
    const auto second = hand->Hear();
    ASSERT_TRUE(second.has_value());
    // The header, and of three times 64 bytes the first.
    Header answer = asked->header;
    answer.flags = kFlagAnswer | kFlagPayload;
    answer.length = 192;
    answer.reason = Reason::kNone;
    answer.answer = {};
    answer.answer.chunk_length = 192;
    answer.payload_crc = 1;  // nobody looks at it any more
    hand->Say(answer);
    hand->SayBytes(0x11);
    pause(100);
    if (cancelled) {
      PeerSqEntry cancel = PeerNode::Entry(kPeerCancel);
      std::memcpy(cancel.id.bytes.data(), &getting, sizeof getting);
      client.Push(cancel);
      // Its deadline makes the session look at what is under way after the second that frames to be sent have.
      PeerSqEntry ping = PeerNode::Entry(kPeerPing, peer);
      ping.deadline_us = 1'300'000;
      client.Push(ping);
    }
    // It ends now, not when the rest has come.
    ASSERT_TRUE(hand->Until([&] { return client.Has(getting); }));
    EXPECT_EQ(static_cast<ErrorCode>(client.Wait(getting).status),
              cancelled ? ErrorCode::kCancelled : ErrorCode::kDeadlineExceeded);
    std::fill(memory.begin(), memory.end(), std::byte{0x77});
    pause(1600);
    EXPECT_FALSE(hand->closed) << "the session has ended";
    if (hand->closed) return;
    hand->SayBytes(0x22);
    hand->SayBytes(0x33);
    answer = second->header;
    answer.flags = kFlagAnswer | kFlagPayload;
    answer.length = 64;
    answer.reason = Reason::kNone;
    answer.answer = {};
    const Bytes whole(64, std::byte{0x44});
    answer.answer.chunk_length = 64;
    answer.answer.chunk_crc = answer.payload_crc = Crc32c(whole);
    hand->Say(answer, whole);
    ASSERT_TRUE(hand->Until([&] { return client.Has(waiting); }));
    const CqEntry got = client.Wait(waiting);
    EXPECT_EQ(static_cast<ErrorCode>(got.status), ErrorCode::kOk);
    EXPECT_EQ(got.length, 64U);
    EXPECT_TRUE(std::all_of(memory.begin(), memory.end(),
                            [](std::byte byte) { return byte == std::byte{0x77}; }))
        << "what was given back was written to";
    hand->heard.clear();
  }
  hand->Hang();
}

}  // namespace pando::rpc
