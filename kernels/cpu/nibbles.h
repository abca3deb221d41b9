// Codes of a few bits in whole registers: eight numbers a word, each shifted to its place.
#ifndef KVTIER_CPU_NIBBLES_H
#define KVTIER_CPU_NIBBLES_H

#include <cstring>

#include "lanes.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace kvt {
// Compiled once a level: internal linkage, so that the linker can't mix levels.
namespace {

typedef uint32_t Words __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

typedef int32_t Integers __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

// Eights of numbers in a register; where one is less than an eight, codes are taken one by one.
constexpr int kEights = kLanes / 8;

#if defined(__AVX2__)

// Lane i's place in its eight.
inline Words places() {
  Words out;
  for (int i = 0; i < kLanes; i++) out[i] = static_cast<uint32_t>(i % 8);
  return out;
}

// All bits in the lanes of the second eight.
inline Words second_eight() {
  Words out;
  for (int i = 0; i < kLanes; i++) out[i] = i < 8 ? 0u : ~0u;
  return out;
}

// `first` in the lanes of the first eight, `second` in those of the other.
inline Words in_eights(uint32_t first, uint32_t second) {
  return ((Words{} + first) & ~second_eight()) | ((Words{} + second) & second_eight());
}
inline Lanes in_eights(float first, float second) {
  uint32_t bits[2];
  std::memcpy(bits, &first, sizeof first);
  std::memcpy(bits + 1, &second, sizeof second);
  const Words both = in_eights(bits[0], bits[1]);
  return reinterpret_cast<const Lanes&>(both);
}

// So many bytes, each lane with the word of 32 bits that its code is in: all with the same, or each eight with its own.
template <int bytes>
inline Words words_at(const uint8_t* from) {
  static_assert(bytes == 2 || bytes == 4 || (bytes == 8 && kEights == 2));
  // Loaded whole: what is put together in memory waits for it.
  if constexpr (bytes == 2) {
    uint16_t word;
    std::memcpy(&word, from, sizeof word);
    return Words{} + word;
  }
  uint32_t words[2];
  std::memcpy(words, from, bytes);
  return bytes == 4 ? Words{} + words[0] : in_eights(words[0], words[1]);
}

// The number of a table of eight that each lane names in its lowest three bits.
inline Lanes looked_up(const float* eight, const Words& of) {
#if defined(__AVX512F__)
  // Without a mask GCC 12 warns of its own header.
  constexpr __mmask16 kAll = 0xffff;
  const __m512 table = _mm512_maskz_broadcast_f32x8(kAll, _mm256_loadu_ps(eight));
  return reinterpret_cast<const Lanes&>(static_cast<const __m512&>(
      _mm512_maskz_permutexvar_ps(kAll, reinterpret_cast<const __m512i&>(static_cast<const Words&>(of & 7)), table)));
#else
  const __m256 found = _mm256_permutevar8x32_ps(_mm256_loadu_ps(eight), reinterpret_cast<const __m256i&>(of));
  return reinterpret_cast<const Lanes&>(found);
#endif
}

// Rounded to bf16, to nearest even.
inline void narrow(const Lanes& x, uint16_t* to) {
  typedef uint16_t Halves __attribute__((vector_size(2 * kLanes), aligned(2), may_alias));
  const Words bits = reinterpret_cast<const Words&>(x);
  *reinterpret_cast<Halves*>(to) = __builtin_convertvector((bits + 0x7fff + (bits >> 16 & 1)) >> 16, Halves);
}

#endif

}  // namespace
}  // namespace kvt

#endif
