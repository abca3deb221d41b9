// Division by a number that a call fixes.
#ifndef KVTIER_CUDA_DIVISOR_H
#define KVTIER_CUDA_DIVISOR_H

#include <cstdint>

namespace kvt {

// Quotient by an invariant divisor of numbers below 2^31: Granlund and Montgomery, PLDI 1994, figure 4.1.
struct Divisor {
  uint32_t divisor, magic, shift;

  static Divisor of(uint32_t divisor) {
    uint32_t shift = 0;
    while ((uint64_t{1} << shift) < divisor) shift++;
    const uint64_t magic = ((uint64_t{1} << 32) * ((uint64_t{1} << shift) - divisor)) / divisor + 1;
    return {divisor, static_cast<uint32_t>(magic), shift};
  }
  __device__ uint32_t quotient(uint32_t value) const { return (__umulhi(magic, value) + value) >> shift; }
};

}  // namespace kvt

#endif
