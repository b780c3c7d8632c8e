// The order that classes get, against a device of known speed on a virtual clock.
#include "qos/class_scheduler.h"

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <limits>
#include <memory>
#include <vector>

namespace pando {
namespace {

constexpr double kSecond = 1e6;

/// A device that serves units one after the other, and clients that keep a number of requests waiting.
class Simulation {
 public:
  explicit Simulation(double units_per_second)
      : us_per_unit_(kSecond / units_per_second),
        scheduler([this] {
          ++clock_reads;
          return static_cast<uint64_t>(now);
        }) {}

  struct Client {
    uint8_t qos_class = 0;
    double cost = 1;
    size_t depth = 0;    // kept outstanding while active
    bool active = true;
    double think_us = 0;  // between an answer and the next request
    double served = 0;    // units
    uint64_t requests = 0;
    double worst_wait_us = 0;
    uint64_t refused = 0;
  };

  size_t Add(uint8_t qos_class, double cost, size_t depth, double think_us = 0) {
    clients.push_back(std::make_unique<Client>());
    Client& client = *clients.back();
    client.qos_class = qos_class;
    client.cost = cost;
    client.depth = depth;
    client.think_us = think_us;
    for (size_t i = 0; i < depth; ++i) idle_.push_back({now, clients.size() - 1});
    return clients.size() - 1;
  }

  void RunFor(double us) {
    const double end = now + us;
    while (true) {
      for (size_t left = idle_.size(); left > 0; --left) {
        const Idle idle = idle_.front();
        idle_.pop_front();
        if (idle.from <= now && clients[idle.client]->active) {
          Submit(idle.client);
        } else {
          idle_.push_back(idle);
        }
      }
      scheduler.Pump();
      double next = end;
      if (!device_.empty()) next = std::min(next, device_.front().finish);
      for (const Idle& idle : idle_) {
        if (clients[idle.client]->active) next = std::min(next, idle.from);
      }
      const uint64_t timer = scheduler.NextTimerUs();
      if (timer != std::numeric_limits<uint64_t>::max()) {
        next = std::min(next, now + static_cast<double>(timer));
      }
      now = std::max(now, next);
      while (!device_.empty() && device_.front().finish <= now) Complete();
      if (now >= end) return;
    }
  }

  /// Forgets what was served; what waits goes on waiting.
  void Forget() {
    for (const auto& client : clients) {
      client->served = 0;
      client->requests = 0;
      client->worst_wait_us = 0;
    }
  }

  [[nodiscard]] double InFlight() const { return in_flight_; }

 private:
  struct Request {
    QosItem item;
    Simulation* simulation = nullptr;
    size_t client = 0;
    double entered = 0;
  };
  struct Running {
    double finish;
    Request* request;
  };
  struct Idle {
    double from;
    size_t client;
  };

  void Submit(size_t client) {
    auto* request = new Request;
    request->simulation = this;
    request->client = client;
    request->entered = now;
    request->item.qos_class = clients[client]->qos_class;
    request->item.cost = clients[client]->cost;
    request->item.context = request;
    request->item.run = [](QosItem* item) {
      auto* self = static_cast<Request*>(item->context);
      self->simulation->Start(self);
    };
    if (scheduler.Enter(&request->item)) return;
    ++clients[client]->refused;
    delete request;
  }

  void Start(Request* request) {
    Client& client = *clients[request->client];
    client.worst_wait_us = std::max(client.worst_wait_us, now - request->entered);
    const double begin = std::max(now, free_from_);
    free_from_ = begin + client.cost * us_per_unit_;
    in_flight_ += client.cost;
    device_.push_back({free_from_, request});
  }

  void Complete() {
    Request* request = device_.front().request;
    device_.pop_front();
    Client& client = *clients[request->client];
    client.served += client.cost;
    ++client.requests;
    in_flight_ -= client.cost;
    scheduler.Leave(&request->item);
    idle_.push_back({now + client.think_us, request->client});
    delete request;
  }

  double us_per_unit_;
  double free_from_ = 0;
  double in_flight_ = 0;
  std::deque<Running> device_;
  std::deque<Idle> idle_;

 public:
  double now = 1;
  uint64_t clock_reads = 0;
  ClassScheduler scheduler;
  std::vector<std::unique_ptr<Client>> clients;

  ~Simulation() {
    for (const auto& client : clients) client->active = false;
    scheduler.SetOpen(true);
    scheduler.Pump();
    while (!device_.empty()) Complete();
  }
};

ClassPlan Plan(double weight, double reservation = 0, double limit = 0, double burst = 0) {
  return {weight, reservation, limit, burst};
}

TEST(ClassScheduler, SharesByWeight) {
  Simulation sim(10000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(3), Plan(6)});
  for (uint8_t c = 0; c < 3; ++c) sim.Add(c, 1, 200);
  sim.RunFor(1 * kSecond);
  sim.Forget();
  sim.RunFor(10 * kSecond);
  EXPECT_NEAR(sim.clients[0]->served, 10000, 200);
  EXPECT_NEAR(sim.clients[1]->served, 30000, 600);
  EXPECT_NEAR(sim.clients[2]->served, 60000, 1200);
}

TEST(ClassScheduler, WeighsCostAndNotRequests) {
  Simulation sim(10000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1)});
  sim.Add(0, 1, 200);
  sim.Add(1, 65, 20);  // 4 MiB each
  sim.RunFor(10 * kSecond);
  EXPECT_NEAR(sim.clients[0]->served, sim.clients[1]->served, 0.02 * sim.clients[0]->served);
}

TEST(ClassScheduler, KeepsReservationsWithinFivePercent) {
  Simulation sim(10000);
  sim.scheduler.SetPlan(std::vector{Plan(100), Plan(0.001, 3000), Plan(0.001, 500)});
  sim.Add(0, 1, 500);
  sim.Add(1, 1, 100);
  sim.Add(2, 17, 20);  // 1 MiB each
  sim.RunFor(1 * kSecond);
  sim.Forget();
  sim.RunFor(10 * kSecond);
  EXPECT_NEAR(sim.clients[1]->served, 30000, 1500);
  EXPECT_NEAR(sim.clients[2]->served, 5000, 250);
  EXPECT_NEAR(sim.clients[0]->served, 65000, 1500);  // nothing is lost
}

TEST(ClassScheduler, AReservationComesBeforeWeightsThatShareTheRest) {
  Simulation sim(10000);
  sim.scheduler.SetPlan(std::vector{Plan(1, 4000), Plan(1), Plan(1)});
  for (uint8_t c = 0; c < 3; ++c) sim.Add(c, 1, 200);
  sim.RunFor(10 * kSecond);
  EXPECT_NEAR(sim.clients[0]->served, 60000, 1200);
  EXPECT_NEAR(sim.clients[1]->served, 20000, 600);
  EXPECT_NEAR(sim.clients[2]->served, 20000, 600);
}

TEST(ClassScheduler, KeepsLimitsWithinTwoPercentOverTenSeconds) {
  Simulation sim(100000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(100, 0, 1000), Plan(100, 0, 2000)});
  sim.Add(0, 1, 100);
  sim.Add(1, 1, 300);
  sim.Add(2, 5, 300);
  sim.RunFor(10 * kSecond);
  EXPECT_LE(sim.clients[1]->served, 10000 * 1.02);
  EXPECT_GE(sim.clients[1]->served, 10000 * 0.98);
  EXPECT_LE(sim.clients[2]->served, 20000 * 1.02);
  EXPECT_GE(sim.clients[2]->served, 20000 * 0.98);
  EXPECT_GT(sim.clients[0]->served, 960000);  // the rest is used
}

TEST(ClassScheduler, KeepsTheLimitOfAClassThatIsAlone) {
  Simulation sim(100000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1, 0, 500)});
  sim.Add(1, 1, 100);
  sim.RunFor(10 * kSecond);
  EXPECT_NEAR(sim.clients[0]->served, 5000, 100);
}

TEST(ClassScheduler, AnIdleClassHoardsNothing) {
  Simulation sim(10000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1, 1000), Plan(1, 0, 1000)});
  sim.Add(0, 1, 200);
  sim.RunFor(30 * kSecond);  // the others are idle
  sim.Forget();
  sim.Add(1, 1, 200);
  sim.Add(2, 1, 200);
  sim.RunFor(1 * kSecond);
  // Its reservation and half of what the limited one leaves; the allowance of the burst comes once.
  EXPECT_LE(sim.clients[1]->served, 1000 + 100 + 4100);
  EXPECT_LE(sim.clients[2]->served, 1000 + 100 + 1);
  EXPECT_GE(sim.clients[0]->served, 3800);
}

TEST(ClassScheduler, ABurstIsWhatThePlanSays) {
  Simulation sim(1e6);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1, 0, 1000, 400)});
  sim.Add(1, 1, 800);
  sim.RunFor(0.01 * kSecond);
  EXPECT_NEAR(sim.clients[0]->served, 400 + 10, 5);
}

TEST(ClassScheduler, NobodyStarvesBehindReservationsThatAreTooLarge) {
  Simulation sim(1000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1, 5000)});
  sim.Add(0, 1, 10);
  sim.Add(1, 1, 500);
  sim.RunFor(20 * kSecond);
  EXPECT_GE(sim.clients[0]->requests, 15U);
}

TEST(ClassScheduler, ASparseClassDoesNotWaitForTheQueueOfAnother) {
  Simulation sim(10000);
  sim.scheduler.SetPlan(std::vector{Plan(10), Plan(1)});
  sim.Add(1, 1, 1000);
  sim.Add(0, 1, 1, 20000);
  sim.RunFor(10 * kSecond);
  // The window is full at most, and one request of the other class comes before: 6.5 ms, not 100 ms.
  EXPECT_LE(sim.clients[1]->worst_wait_us, 2000);
  EXPECT_LE(sim.InFlight(), ClassScheduler::kWindowUnits + 1);
}

TEST(ClassScheduler, APlanIsReplacedUnderLoad) {
  Simulation sim(10000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1, 0, 10)});
  sim.Add(0, 1, 200);
  sim.Add(1, 17, 200);
  sim.RunFor(5 * kSecond);
  EXPECT_LE(sim.clients[1]->served, 50 + 1 + 2 * 17);
  sim.Forget();
  // What was earned at the old rate is worth less time at the new one.
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(3, 0, 5000)});
  sim.RunFor(10 * kSecond);
  EXPECT_NEAR(sim.clients[1]->served, 50000, 1000);
  sim.Forget();
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1)});
  sim.RunFor(10 * kSecond);
  EXPECT_NEAR(sim.clients[1]->served, 50000, 1000);
  EXPECT_NEAR(sim.clients[0]->served, 50000, 1000);
}

TEST(ClassScheduler, ThePlanOfAnotherNumberOfClassesLosesNothing) {
  Simulation sim(1000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1), Plan(1, 0, 1)});
  sim.Add(0, 1, 20);
  sim.Add(2, 1, 100);
  sim.RunFor(1 * kSecond);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1)});
  sim.Forget();
  sim.RunFor(2 * kSecond);
  EXPECT_GE(sim.clients[1]->served, 100);  // as the first class from now on
}

TEST(ClassScheduler, AClassAloneIsNeverHeldBackAndReadsNoClock) {
  Simulation sim(10000);
  sim.scheduler.SetPlan(std::vector{Plan(1, 10), Plan(1, 10)});
  sim.Add(0, 65, 500);
  sim.RunFor(1 * kSecond);
  EXPECT_EQ(sim.scheduler.held_back(), 0U);
  EXPECT_NEAR(sim.InFlight(), 500 * 65, 1);
  const uint64_t reads = sim.clock_reads;
  sim.RunFor(1 * kSecond);
  EXPECT_EQ(sim.clock_reads, reads);
}

TEST(ClassScheduler, AClassIsAloneAgainASecondAfterTheOther) {
  Simulation sim(10000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1)});
  sim.Add(0, 1, 300);
  sim.Add(1, 1, 300);
  sim.RunFor(1 * kSecond);
  EXPECT_LE(sim.InFlight(), ClassScheduler::kWindowUnits + 1);
  sim.clients[1]->active = false;
  sim.RunFor(2.5 * kSecond);
  EXPECT_NEAR(sim.InFlight(), 300, 1);
}

TEST(ClassScheduler, ANewcomerDoesNotWaitForWhatWasThereBefore) {
  Simulation sim(1000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1)});
  sim.Add(0, 1, 500);  // half a second of work, handed to the device
  sim.RunFor(0.1 * kSecond);
  sim.Add(1, 1, 1);
  sim.RunFor(0.1 * kSecond);
  EXPECT_EQ(sim.clients[1]->worst_wait_us, 0);
}

TEST(ClassScheduler, AQueueIsBounded) {
  Simulation sim(1000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1, 0, 10)});
  sim.Add(1, 1, ClassScheduler::kQueueLimit + 100);
  sim.RunFor(1);
  EXPECT_GT(sim.clients[0]->refused, 90U);
  EXPECT_EQ(sim.scheduler.waiting(), ClassScheduler::kQueueLimit);
}

TEST(ClassScheduler, OpenItHoldsNothingBack) {
  Simulation sim(1000);
  sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1, 0, 1)});
  sim.Add(1, 1, 500);
  sim.RunFor(10);
  EXPECT_GT(sim.scheduler.waiting(), 450U);
  sim.scheduler.SetOpen(true);
  sim.RunFor(1);
  EXPECT_EQ(sim.scheduler.waiting(), 0U);
}

TEST(ClassScheduler, OpenItMayBeEnteredAndLeftFromWhatItRuns) {
  // As when room is made of chunks that are gone meanwhile: a turn ends at once, and the next one is asked for.
  struct Turn {
    QosItem item;
    ClassScheduler* scheduler = nullptr;
    Turn* next = nullptr;
    int times_run = 0;
  };
  uint64_t now = 5'000'000;
  ClassScheduler scheduler([&] { return now; });
  scheduler.SetPlan(std::vector{Plan(1), Plan(1, 0, 1, 1)});
  std::array<Turn, 4> turns;
  for (Turn& turn : turns) {
    turn.scheduler = &scheduler;
    turn.item.qos_class = 1;
    turn.item.cost = 100;
    turn.item.context = &turn;
    turn.item.run = [](QosItem* item) {
      auto* self = static_cast<Turn*>(item->context);
      ++self->times_run;
      self->scheduler->Leave(item);
      if (self->next != nullptr) {
        EXPECT_TRUE(self->scheduler->Enter(&self->next->item));
      }
    };
  }
  turns[1].next = &turns[3];
  for (size_t i = 0; i < 3; ++i) ASSERT_TRUE(scheduler.Enter(&turns[i].item));
  ASSERT_EQ(scheduler.waiting(), 2U);
  scheduler.SetOpen(true);
  scheduler.Pump();
  EXPECT_EQ(scheduler.waiting(), 0U);
  for (const Turn& turn : turns) EXPECT_EQ(turn.times_run, 1);
}

TEST(ClassScheduler, NumbersThatMeanNothingAreThoseOfNoPlan) {
  Simulation sim(1000);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  sim.scheduler.SetPlan(std::vector{Plan(nan), Plan(1, -1), Plan(0), Plan(1, 0, nan)});
  for (uint8_t c = 0; c < 5; ++c) sim.Add(c, 1, 50);
  sim.RunFor(10 * kSecond);
  for (size_t c = 1; c < 4; ++c) EXPECT_NEAR(sim.clients[c]->served, 2500, 100);
}

TEST(ClassScheduler, NoPlanOutlivesItself) {
  const double least = std::numeric_limits<double>::denorm_min();
  for (const ClassPlan& wild :
       {Plan(least), Plan(1e-6), Plan(kLeastWeight), Plan(kMostWeight), Plan(1, 0, least),
        Plan(1, 0, 1e-9), Plan(1, 0, kLeastRate), Plan(1, least), Plan(1, 1e-9),
        Plan(1, kLeastRate), Plan(least, least, least, least)}) {
    Simulation sim(10000);
    sim.scheduler.SetPlan(std::vector{Plan(1), wild});
    sim.Add(0, 1, 200);
    sim.Add(1, 65, 20);
    // Long enough for what a starving class gets.
    sim.RunFor(5 * kSecond);
    sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1, 0, 4000)});
    sim.RunFor(2 * kSecond);
    sim.Forget();
    sim.RunFor(10 * kSecond);
    EXPECT_NEAR(sim.clients[1]->served, 40000, 2000)
        << wild.weight << " " << wild.reservation << " " << wild.limit;
    EXPECT_NEAR(sim.clients[0]->served, 60000, 2000)
        << wild.weight << " " << wild.reservation << " " << wild.limit;
    sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1, 8000)});
    sim.Forget();
    sim.RunFor(5 * kSecond);
    EXPECT_GE(sim.clients[1]->served, 38000)
        << wild.weight << " " << wild.reservation << " " << wild.limit;
  }
}

TEST(ClassScheduler, APartOfTheLeastLimitLiftsNothing) {
  Simulation sim(10000);
  // As one of 64 partitions gets it, and less.
  for (const double limit : {kLeastRate / 64, kLeastRate / 1e6}) {
    sim.scheduler.SetPlan(std::vector{Plan(1), Plan(1, 0, limit)});
    sim.Add(1, 1, 10);
    sim.RunFor(2 * kSecond);
    EXPECT_LE(sim.clients.back()->served, 1);
  }
}

TEST(IsUsablePlan, HasBounds) {
  EXPECT_TRUE(IsUsablePlan(Plan(kLeastWeight, kLeastRate, kLeastRate, kMostRate)));
  EXPECT_TRUE(IsUsablePlan(Plan(kMostWeight, kMostRate, kMostRate)));
  EXPECT_FALSE(IsUsablePlan(Plan(kLeastWeight / 2)));
  EXPECT_FALSE(IsUsablePlan(Plan(kMostWeight * 2)));
  EXPECT_FALSE(IsUsablePlan(Plan(1, kLeastRate / 2)));
  EXPECT_FALSE(IsUsablePlan(Plan(1, 0, kLeastRate / 2)));
  EXPECT_FALSE(IsUsablePlan(Plan(1, 0, kMostRate * 2)));
}

TEST(CostUnits, CountsAsTheGatewayDoes) {
  EXPECT_EQ(CostUnits(0), 1);
  EXPECT_EQ(CostUnits(4096), 1);
  EXPECT_EQ(CostUnits(4097), 2);
  EXPECT_EQ(CostUnits(4096 + 65536), 2);
  EXPECT_EQ(CostUnits(1 << 20), 17);
  EXPECT_EQ(CostUnits(4 << 20), 65);
}

}  // namespace
}  // namespace pando
