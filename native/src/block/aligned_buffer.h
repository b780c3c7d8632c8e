#ifndef PANDO_BLOCK_ALIGNED_BUFFER_H_
#define PANDO_BLOCK_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace pando {

inline constexpr size_t kPageBytes = 4096;

constexpr uint64_t RoundUp(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// Zeroed, page-aligned memory that O_DIRECT accepts. Size is rounded up to whole pages.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size) : size_(RoundUp(size, kPageBytes)) {
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, size_)));
    if (!data_) throw std::bad_alloc();
    std::memset(data_.get(), 0, size_);
  }
  [[nodiscard]] std::byte* data() const { return data_.get(); }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] std::span<std::byte> span() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  size_t size_ = 0;
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace pando

#endif  // PANDO_BLOCK_ALIGNED_BUFFER_H_
