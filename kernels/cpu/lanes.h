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

typedef float Quarter __attribute__((vector_size(16)));

// All numbers joined in pairs by `join`, which takes its arguments in any order.
template <typename Join>
[[gnu::always_inline]] inline float joined(const Lanes& x, Join join) {
#if defined(__AVX512F__)
  Quarter all = join(join(__builtin_shufflevector(x, x, 0, 1, 2, 3), __builtin_shufflevector(x, x, 4, 5, 6, 7)),
                     join(__builtin_shufflevector(x, x, 8, 9, 10, 11), __builtin_shufflevector(x, x, 12, 13, 14, 15)));
#elif defined(__AVX__)
  Quarter all = join(__builtin_shufflevector(x, x, 0, 1, 2, 3), __builtin_shufflevector(x, x, 4, 5, 6, 7));
#else
  Quarter all = x;
#endif
  all = join(all, __builtin_shufflevector(all, all, 2, 3, 0, 1));
  return join(all, __builtin_shufflevector(all, all, 1, 0, 3, 2))[0];
}

[[maybe_unused]] inline float total(const Lanes& x) {
  return joined(x, [](const Quarter& a, const Quarter& b) -> Quarter { return a + b; });
}

[[maybe_unused]] inline float most_of(const Lanes& x) {
  return joined(x, [](const Quarter& a, const Quarter& b) -> Quarter { return a > b ? a : b; });
}

// 2^x for x <= 0, relative error 2e-7, 0 below 2^-126: Taylor series of 2^f, f in [-0.5, 0.5], to degree 7.
[[maybe_unused]] inline Lanes exp2_of(const Lanes& given) {
  typedef int32_t Integers __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: whole numbers are its last places
  const Lanes least = Lanes{} - 126.0f;
  const Lanes x = given > least ? given : least;
  const Lanes shifted = x + kRound;
  const Lanes f = x - (shifted - kRound);
  Lanes y = f * 1.5252734e-5f + 1.5403530e-4f;
  y = y * f + 1.3333558e-3f;
  y = y * f + 9.6181291e-3f;
  y = y * f + 5.5504109e-2f;
  y = y * f + 2.4022651e-1f;
  y = y * f + 6.9314718e-1f;
  y = y * f + 1.0f;
  const Integers power = (reinterpret_cast<Integers>(shifted) - 0x4b400000 + 127) << 23;
  const Lanes result = y * reinterpret_cast<Lanes>(power);
  return given > least ? result : Lanes{};
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
