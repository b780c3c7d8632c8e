#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "erasure/galois.h"
#include "pando/erasure.h"

#if defined(PANDO_ISAL_LIBRARY)
#include <dlfcn.h>
#endif

namespace pando {
namespace {

using erasure::kInverses;
using erasure::kTableBytes;
using erasure::Multiply;

constexpr size_t kMost = kMostDataFragments;
using Row = std::array<uint8_t, kMost>;
using Matrix = std::array<Row, kMost>;

/// The factors that make a fragment of the data.
Row Generator(uint32_t data, uint32_t fragment) {
  Row row{};
  if (fragment < data) {
    row[fragment] = 1;
    return row;
  }
  for (uint32_t i = 0; i < data; ++i) row[i] = kInverses[fragment ^ i];
  return row;
}

void AddScaled(Row& to, const Row& from, uint8_t factor, uint32_t data) {
  for (uint32_t i = 0; i < data; ++i) to[i] = static_cast<uint8_t>(to[i] ^ Multiply(from[i], factor));
}

void Scale(Row& row, uint8_t factor, uint32_t data) {
  for (uint32_t i = 0; i < data; ++i) row[i] = Multiply(row[i], factor);
}

/// Gauss and Jordan. REQUIRES: the rows belong to different fragments; then there is an inverse.
Matrix Inverted(Matrix matrix, uint32_t data) {
  Matrix inverse{};
  for (uint32_t i = 0; i < data; ++i) inverse[i][i] = 1;
  for (uint32_t column = 0; column < data; ++column) {
    uint32_t pivot = column;
    while (pivot < data && matrix[pivot][column] == 0) ++pivot;
    PANDO_ASSERT(pivot < data);
    std::swap(matrix[pivot], matrix[column]);
    std::swap(inverse[pivot], inverse[column]);
    const uint8_t factor = kInverses[matrix[column][column]];
    Scale(matrix[column], factor, data);
    Scale(inverse[column], factor, data);
    for (uint32_t row = 0; row < data; ++row) {
      const uint8_t scale = matrix[row][column];
      if (row == column || scale == 0) continue;
      AddScaled(matrix[row], matrix[column], scale, data);
      AddScaled(inverse[row], inverse[column], scale, data);
    }
  }
  return inverse;
}

/// What multiplies, and the tables that it wants for rows of factors (`count` in each), kTableBytes for a factor.
struct Engine {
  erasure::DotProduct multiply = nullptr;
  void (*fill)(std::span<const uint8_t> factors, size_t count, uint8_t* tables) = nullptr;
};

void FillTables(std::span<const uint8_t> factors, size_t /*count*/, uint8_t* tables) {
  for (size_t at = 0; at < factors.size(); ++at) erasure::FillTable(factors[at], tables + at * kTableBytes);
}

#if defined(PANDO_ISAL_LIBRARY)
/// As isa-l/erasure_code.h has them since version 2.
struct Isal {
  void (*init_tables)(int k, int rows, unsigned char* factors, unsigned char* tables) = nullptr;
  void (*encode)(int length, int k, int rows, unsigned char* tables, unsigned char** from, unsigned char** to) = nullptr;

  static const Isal& Get() {
    static const Isal found = [] {
      int flags = RTLD_NOW | RTLD_LOCAL;
// Its own symbols first. The sanitizers want to be first themselves, and no test exports a symbol of the library's.
#if !PANDO_SANITIZED
      flags |= RTLD_DEEPBIND;
#endif
      Isal isal;
      // Never closed: its code is in use until the process ends.
      void* library = dlopen(PANDO_ISAL_LIBRARY, flags);
      if (library == nullptr) return isal;
      isal.init_tables = reinterpret_cast<decltype(isal.init_tables)>(dlsym(library, "ec_init_tables"));
      isal.encode = reinterpret_cast<decltype(isal.encode)>(dlsym(library, "ec_encode_data"));
      return isal.init_tables == nullptr || isal.encode == nullptr ? Isal() : isal;
    }();
    return found;
  }
};

/// Its tables are its own business: later versions have other ones where the machine multiplies in one instruction. The interface is
/// older than const; it changes neither factors nor tables nor sources.
void FillTablesIsal(std::span<const uint8_t> factors, size_t count, uint8_t* tables) {
  Isal::Get().init_tables(static_cast<int>(count), static_cast<int>(factors.size() / count),
                          const_cast<unsigned char*>(factors.data()), tables);
}

void DotProductIsal(const uint8_t* tables, std::span<const uint8_t* const> sources, std::span<uint8_t* const> targets,
                    size_t length) {
  std::array<unsigned char*, kMost> from{};
  std::array<unsigned char*, kMostDataFragments + kMostParityFragments> to{};
  std::transform(sources.begin(), sources.end(), from.begin(),
                 [](const uint8_t* source) { return const_cast<unsigned char*>(source); });
  std::copy(targets.begin(), targets.end(), to.begin());
  Isal::Get().encode(static_cast<int>(length), static_cast<int>(sources.size()), static_cast<int>(targets.size()),
                     const_cast<unsigned char*>(tables), from.data(), to.data());
}
#endif

Engine Chosen(ErasureCode::Kernel kernel) {
  switch (kernel) {
    case ErasureCode::Kernel::kBest:
      break;
    case ErasureCode::Kernel::kIsal:
#if defined(PANDO_ISAL_LIBRARY)
      if (ErasureCode::Has(kernel)) return {DotProductIsal, FillTablesIsal};
#endif
      return {};
    case ErasureCode::Kernel::kAvx2:
      if (!ErasureCode::Has(kernel)) return {};
      return {erasure::DotProductAvx2, FillTables};
    case ErasureCode::Kernel::kSsse3:
      if (!ErasureCode::Has(kernel)) return {};
      return {erasure::DotProductSsse3, FillTables};
    case ErasureCode::Kernel::kScalar:
      return {erasure::DotProductScalar, FillTables};
  }
  // Ours with AVX2 is at least as fast (erasure_bench), and needs nothing else; ISA-L also knows other architectures.
  static const Engine best = [] {
    for (const auto one : {ErasureCode::Kernel::kAvx2, ErasureCode::Kernel::kIsal, ErasureCode::Kernel::kSsse3}) {
      if (ErasureCode::Has(one)) return Chosen(one);
    }
    return Chosen(ErasureCode::Kernel::kScalar);
  }();
  return best;
}

Status Invalid(const char* what) { return {ErrorCode::kInvalidArgument, what}; }

}  // namespace

bool ErasureCode::Has(Kernel kernel) {
  switch (kernel) {
    case Kernel::kIsal:
#if defined(PANDO_ISAL_LIBRARY)
      return Isal::Get().encode != nullptr;
#else
      return false;
#endif
    case Kernel::kAvx2:
    case Kernel::kSsse3:
#if defined(__x86_64__)
      __builtin_cpu_init();
      return kernel == Kernel::kAvx2 ? __builtin_cpu_supports("avx2") != 0 : __builtin_cpu_supports("ssse3") != 0;
#else
      return false;
#endif
    case Kernel::kBest:
    case Kernel::kScalar:
      return true;
  }
  return false;
}

Result<ErasureCode> ErasureCode::Create(uint32_t data, uint32_t parity) {
  if (data < 1 || data > kMostDataFragments || parity < 1 || parity > kMostParityFragments) {
    return {ErrorCode::kInvalidArgument, "a code has 1 to 16 data fragments and 1 to 8 parity fragments"};
  }
  return ErasureCode(data, parity);
}

Status ErasureCode::Check(std::span<const Source> sources, std::span<const Target> targets) const {
  const uint32_t all = data_ + parity_;
  if (sources.size() != data_) return Invalid("as many fragments are needed as there are data fragments");
  if (targets.empty() || targets.size() > all) return Invalid("nothing to compute, or too much");
  uint32_t seen = 0;
  const auto take = [&seen, all](uint32_t fragment) {
    if (fragment >= all || (seen >> fragment & 1U) != 0) return false;
    seen |= 1U << fragment;
    return true;
  };
  for (const Target& target : targets) {
    if (!take(target.fragment)) return Invalid("a fragment that the code does not have, or one named twice");
    if (target.bytes.size() != targets.front().bytes.size()) return Invalid("targets of different lengths");
  }
  for (const Source& source : sources) {
    if (!take(source.fragment)) return Invalid("a fragment that the code does not have, or one named twice");
    if (source.bytes.size() > targets.front().bytes.size()) return Invalid("a source is longer than the targets");
  }
  return {};
}

Status ErasureCode::Compute(std::span<const Source> sources, std::span<const Target> targets, Kernel kernel) const {
  if (Status checked = Check(sources, targets); !checked.ok()) return checked;
  const Engine engine = Chosen(kernel);
  if (engine.multiply == nullptr) return Invalid("this machine has no such kernel");
  // What makes the data of the sources; a target is then made of the data.
  Matrix present{};
  for (uint32_t i = 0; i < data_; ++i) present[i] = Generator(data_, sources[i].fragment);
  const Matrix inverse = Inverted(present, data_);
  std::vector<Row> factors(targets.size());
  for (size_t j = 0; j < targets.size(); ++j) {
    const Row wanted = Generator(data_, targets[j].fragment);
    for (uint32_t i = 0; i < data_; ++i) AddScaled(factors[j], inverse[i], wanted[i], data_);
  }
  // Sources that have ended are zeros: what lies behind the end of one is the sum of the others.
  const size_t length = targets.front().bytes.size();
  std::vector<uint8_t> tables(targets.size() * data_ * kTableBytes);
  std::vector<uint8_t> used;
  for (size_t start = 0; start < length;) {
    size_t end = length;
    std::array<const uint8_t*, kMost> from{};
    std::array<uint32_t, kMost> which{};
    size_t count = 0;
    for (uint32_t i = 0; i < data_; ++i) {
      const auto bytes = sources[i].bytes;
      if (bytes.size() <= start) continue;
      end = std::min(end, bytes.size());
      from[count] = reinterpret_cast<const uint8_t*>(bytes.data()) + start;
      which[count++] = i;
    }
    std::array<uint8_t*, kMostDataFragments + kMostParityFragments> to{};
    used.clear();
    for (size_t j = 0; j < targets.size(); ++j) {
      to[j] = reinterpret_cast<uint8_t*>(targets[j].bytes.data()) + start;
      for (size_t i = 0; i < count; ++i) used.push_back(factors[j][which[i]]);
    }
    if (count == 0) {
      for (size_t j = 0; j < targets.size(); ++j) std::fill_n(to[j], end - start, uint8_t{0});
    } else {
      engine.fill(used, count, tables.data());
      engine.multiply(tables.data(), std::span(from).first(count), std::span(to).first(targets.size()), end - start);
    }
    start = end;
  }
  return {};
}

}  // namespace pando
