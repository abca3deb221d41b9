// Sums in whole registers of this instruction set level, for kernels that multiply a few rows with many.
#ifndef KVTIER_CPU_LANES_H
#define KVTIER_CPU_LANES_H

#include <cstdint>

namespace kvt {
// Compiled once a level: internal linkage, so that the linker can't mix levels.
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
// Widths that kernels pad their rows to: a multiple of kLanes at every level.
constexpr int kPad = 16;
typedef float Lanes __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline const Lanes& lanes_at(const float* from) { return *reinterpret_cast<const Lanes*>(from); }

// kLanes numbers of bf16 as floats.
[[maybe_unused]] inline Lanes widened(const uint16_t* from) {
  typedef uint16_t Halves __attribute__((vector_size(2 * kLanes), aligned(2), may_alias));
  typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
  const Words words = __builtin_convertvector(*reinterpret_cast<const Halves*>(from), Words) << 16;
  return reinterpret_cast<const Lanes&>(words);
}

[[maybe_unused]] inline float total(const Lanes& x) {
  typedef float Quarter __attribute__((vector_size(16)));
#if defined(__AVX512F__)
  Quarter sum = (__builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7)) +
                (__builtin_shufflevector(x, x, 8, 9, 10, 11) + __builtin_shufflevector(x, x, 12, 13, 14, 15));
#elif defined(__AVX__)
  Quarter sum = __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
#else
  Quarter sum = x;
#endif
  sum += __builtin_shufflevector(sum, sum, 2, 3, 0, 1);
  return sum[0] + sum[1];
}

// out[j * apart] = product of row j of four, `width` apart, with a vector.
[[maybe_unused]] inline void four_products(const float* rows, int64_t width, const float* vector, float* out, int64_t apart) {
  Lanes sums[4] = {};
  for (int64_t d = 0; d < width; d += kLanes) {
    const Lanes& x = lanes_at(vector + d);
    for (int j = 0; j < 4; j++) sums[j] += lanes_at(rows + j * width + d) * x;
  }
  for (int j = 0; j < 4; j++) out[j * apart] = total(sums[j]);
}

}  // namespace
}  // namespace kvt
#endif
