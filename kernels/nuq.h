// Pages of non-uniform codes; the twin of nuq.ts.
#ifndef KVTIER_NUQ_H
#define KVTIER_NUQ_H

#include <cstdint>

#ifdef __CUDACC__
#define KVT_NUQ __host__ __device__
#else
#define KVT_NUQ
#endif

namespace kvt {

constexpr int64_t kNuqTokens = 64;

struct NuqPage {
  int64_t dim, bits, outliers;

  KVT_NUQ constexpr int64_t row_bytes() const { return dim * bits / 8; }
  KVT_NUQ constexpr int64_t values() const { return kNuqTokens * row_bytes(); }
  KVT_NUQ constexpr int64_t ranges() const { return 2 * values(); }
  KVT_NUQ constexpr int64_t key_outliers() const { return ranges() + 4 * kNuqTokens; }
  KVT_NUQ constexpr int64_t value_outliers() const { return key_outliers() + 4 * outliers; }
  KVT_NUQ constexpr int64_t bytes() const { return value_outliers() + 4 * outliers; }
  // Halves of a head's book.
  KVT_NUQ constexpr int64_t book() const { return 2 * dim + 2 * (int64_t{1} << bits); }
  KVT_NUQ constexpr int64_t place(int64_t token) const { return token * outliers / kNuqTokens; }
};

}  // namespace kvt

#undef KVT_NUQ
#endif
