// bf16 and f16 to and from float, round to nearest even; the twin of floats.ts for finite numbers.
#ifndef KVTIER_CPU_HALVES_H
#define KVTIER_CPU_HALVES_H

#include <cstdint>
#include <cstring>

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace kvt {
// Compiled once a level: internal linkage, so that the linker can't mix levels.
namespace {

[[maybe_unused]] inline float of_bf16(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

[[maybe_unused]] inline uint16_t bf16_of(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return static_cast<uint16_t>((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

// Finite halves only. Kernels compute without denormals, which a subnormal half widened bit by bit would be: it is counted
// from 2^-14 on, and that taken off again. The processor's own conversion widens it whatever is said of denormals.
[[maybe_unused]] inline float of_f16(uint16_t bits) {
#if defined(__F16C__)
  return _cvtsh_ss(bits);
#else
  const uint32_t word = static_cast<uint32_t>(bits & 0x7fff) << 13;
  const bool subnormal = word < 0x00800000;
  const uint32_t rebased = word + (subnormal ? 0x38800000 : 0x38000000);
  float size;
  std::memcpy(&size, &rebased, sizeof size);
  size -= subnormal ? 0x1p-14f : 0.0f;
  return bits & 0x8000 ? -size : size;
#endif
}

// to[i] = join(to[i], of_f16(from[i])...), `join` a function of floats and of vectors: compilers don't gather conversions of
// single halves.
template <typename Join, typename... Halves>
[[gnu::always_inline]] inline void join_f16(int64_t count, float* to, Join join, const Halves*... from) {
  int64_t i = 0;
#if defined(__F16C__)
  constexpr int kAtOnce = 8;
  const auto eight = [&](const uint16_t* halves) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + i)));
  };
  for (; i + kAtOnce <= count; i += kAtOnce) _mm256_storeu_ps(to + i, join(_mm256_loadu_ps(to + i), eight(from)...));
#endif
  for (; i < count; i++) to[i] = join(to[i], of_f16(from[i])...);
}

// Round to nearest even.
[[maybe_unused]] inline uint16_t f16_of(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  const uint16_t sign = static_cast<uint16_t>(word >> 16 & 0x8000);
  word &= 0x7fffffff;
  if (word >= 0x47800000) return static_cast<uint16_t>(sign | (word > 0x7f800000 ? 0x7e00 : 0x7c00));
  if (word < 0x38800000) {
    // Below 2^-14 a half counts units of 2^-24, the last place of a float between 0.5 and 1.
    float size;
    std::memcpy(&size, &word, sizeof size);
    size += 0.5f;
    std::memcpy(&word, &size, sizeof word);
    return static_cast<uint16_t>(sign | (word - 0x3f000000));
  }
  word += 0xc8000fff + (word >> 13 & 1);
  return static_cast<uint16_t>(sign | word >> 13);
}

[[maybe_unused]] inline void widen(const uint16_t* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i++) to[i] = of_bf16(from[i]);
}

}  // namespace
}  // namespace kvt

#endif
