// Errors are values. No exception crosses a seam of this library; a function that can fail returns
// Result<T>. The codes carry the names of core/contract/errors.ts; their numbers travel in
// completion entries (port_layout.h) and therefore never change meaning.
#ifndef PANDO_RESULT_H_
#define PANDO_RESULT_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#if defined(__GNUC__)
#define PANDO_EXPORT __attribute__((visibility("default")))
#else
#define PANDO_EXPORT
#endif

namespace pando {

enum class ErrorCode : uint32_t {
  kOk = 0,
  kChunkNotFound = 1,
  kConflict = 2,
  kCorruptChunk = 3,
  kInsufficientStorage = 4,
  kDeviceOffline = 5,
  kIoError = 6,
  kInvalidArgument = 7,
  kOverloaded = 8,
  kClosed = 9,
  kCancelled = 10,
  kInternal = 11,
  kPeerUnreachable = 12,
  kPeerRefused = 13,
  kProtocolError = 14,
  kDeadlineExceeded = 15,
  kStaleMap = 16,
};
inline constexpr uint32_t kErrorCodeCount = 17;

/// The name as in core/contract/errors.ts ("OK", "CHUNK_NOT_FOUND", ...).
constexpr std::string_view ErrorCodeName(ErrorCode code) {
  constexpr std::string_view kNames[kErrorCodeCount] = {"OK",
                                                        "CHUNK_NOT_FOUND",
                                                        "CONFLICT",
                                                        "CORRUPT_CHUNK",
                                                        "INSUFFICIENT_STORAGE",
                                                        "DEVICE_OFFLINE",
                                                        "IO_ERROR",
                                                        "INVALID_ARGUMENT",
                                                        "OVERLOADED",
                                                        "CLOSED",
                                                        "CANCELLED",
                                                        "INTERNAL",
                                                        "PEER_UNREACHABLE",
                                                        "PEER_REFUSED",
                                                        "PROTOCOL_ERROR",
                                                        "DEADLINE_EXCEEDED",
                                                        "STALE_MAP"};
  const auto index = static_cast<uint32_t>(code);
  return index < kErrorCodeCount ? kNames[index] : std::string_view("INTERNAL");
}

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

/// A value or an Error.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}      // NOLINT: implicit by design
  Result(Error error) : error_(std::move(error)) {}  // NOLINT
  Result(ErrorCode code, std::string message) : error_{code, std::move(message)} {}

  [[nodiscard]] bool ok() const { return value_.has_value(); }
  /// REQUIRES: ok().
  [[nodiscard]] T& value() & { return *value_; }
  [[nodiscard]] const T& value() const& { return *value_; }
  [[nodiscard]] T&& value() && { return std::move(*value_); }
  /// REQUIRES: !ok().
  [[nodiscard]] const Error& error() const { return error_; }
  [[nodiscard]] ErrorCode code() const { return ok() ? ErrorCode::kOk : error_.code; }

 private:
  std::optional<T> value_;
  Error error_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() : error_{ErrorCode::kOk, {}} {}
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design
  Result(ErrorCode code, std::string message) : error_{code, std::move(message)} {}

  [[nodiscard]] bool ok() const { return error_.code == ErrorCode::kOk; }
  [[nodiscard]] const Error& error() const { return error_; }
  [[nodiscard]] ErrorCode code() const { return error_.code; }

 private:
  Error error_;
};
using Status = Result<void>;

[[noreturn]] inline void AssertionFailed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "pando: assertion failed: %s at %s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace pando

// Stays on in production: a store that has lost track of itself must stop before it acknowledges.
#define PANDO_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::pando::AssertionFailed(#condition, __FILE__, __LINE__))

#endif  // PANDO_RESULT_H_
