// Coroutines for the store's longer stories (recovery, reads, collection, checkpoints), so that
// each reads as one. Single-threaded: everything resumes from BlockDevice::Poll or
// ChunkStore::Poll.
#ifndef PANDO_STORE_TASK_H_
#define PANDO_STORE_TASK_H_

#include <coroutine>
#include <cstdint>
#include <exception>
#include <optional>
#include <utility>

#include "block/block_device.h"

namespace pando {

template <typename T>
class [[nodiscard]] Task;

namespace task_internal {

template <typename Promise>
struct ResumeContinuation {
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) const noexcept {
    return self.promise().continuation;
  }
  void await_resume() const noexcept {}
};

struct PromiseBase {
  std::coroutine_handle<> continuation = std::noop_coroutine();
  [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
  void unhandled_exception() const noexcept { std::terminate(); }
};

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  [[nodiscard]] ResumeContinuation<Promise> final_suspend() const noexcept { return {}; }
  void return_value(T result) { value.emplace(std::move(result)); }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object();
  [[nodiscard]] ResumeContinuation<Promise> final_suspend() const noexcept { return {}; }
  void return_void() const noexcept {}
};

}  // namespace task_internal

/// Starts when awaited; destroys itself when the Task is destroyed.
template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = task_internal::Promise<T>;
  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) noexcept {
    handle_.promise().continuation = caller;
    return handle_;
  }
  T await_resume() {
    if constexpr (!std::is_void_v<T>) return std::move(*handle_.promise().value);
  }

 private:
  std::coroutine_handle<promise_type> handle_;
};

namespace task_internal {
template <typename T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
}
}  // namespace task_internal

/// Counts tasks that run on their own, so that their owner can wait for them.
struct TaskScope {
  uint32_t running = 0;
};

struct DetachedTask {
  struct promise_type {
    DetachedTask get_return_object() const noexcept { return {}; }
    [[nodiscard]] std::suspend_never initial_suspend() const noexcept { return {}; }
    [[nodiscard]] std::suspend_never final_suspend() const noexcept { return {}; }
    void unhandled_exception() const noexcept { std::terminate(); }
    void return_void() const noexcept {}
  };
};

inline DetachedTask Spawn(TaskScope& scope, Task<void> task) {
  ++scope.running;
  co_await task;
  --scope.running;
}

/// co_await DeviceIo(device, request) -> bytes moved or -errno.
class DeviceIo {
 public:
  DeviceIo(BlockDevice& device, BlockRequest::Op op, uint64_t offset, void* data, uint64_t length,
           bool durable = false)
      : device_(device) {
    request_.op = op;
    request_.offset = offset;
    request_.durable = durable;
    if (data != nullptr) {
      request_.SetPart(data, length);
    } else {
      request_.length = length;
    }
  }
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> self) {
    self_ = self;
    request_.context = this;
    request_.done = [](BlockRequest* request) {
      static_cast<DeviceIo*>(request->context)->self_.resume();
    };
    device_.Submit(&request_);
  }
  [[nodiscard]] int64_t await_resume() const noexcept { return request_.result; }

 private:
  BlockDevice& device_;
  BlockRequest request_;
  std::coroutine_handle<> self_;
};

/// Many waiters, released by whoever holds the queue. Waiters resume inside WakeAll.
class WaitQueue {
 public:
  struct Waiter {
    WaitQueue& queue;
    std::coroutine_handle<> handle{};
    Waiter* next = nullptr;
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> self) noexcept {
      handle = self;
      next = std::exchange(queue.head_, this);
    }
    void await_resume() const noexcept {}
  };
  [[nodiscard]] Waiter Wait() { return Waiter{*this}; }
  void WakeAll() {
    Waiter* waiter = std::exchange(head_, nullptr);
    while (waiter != nullptr) {
      Waiter* next = waiter->next;  // the waiter dies when resumed
      waiter->handle.resume();
      waiter = next;
    }
  }
  [[nodiscard]] bool empty() const { return head_ == nullptr; }

 private:
  Waiter* head_ = nullptr;
};

}  // namespace pando

#endif  // PANDO_STORE_TASK_H_
