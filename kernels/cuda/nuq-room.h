// What a block of nuq-attend.cu holds in shared memory, and how codes are cut out of words.
#ifndef KVTIER_CUDA_NUQ_ROOM_H
#define KVTIER_CUDA_NUQ_ROOM_H

#include <cuda_fp16.h>

#include "../nuq.h"
#include "kernel.h"

namespace kvt {

constexpr int kTokens = static_cast<int>(kNuqTokens);

// Code j of 32 in kBits words.
template <int kBits>
__device__ __forceinline__ uint32_t code_of(const uint32_t (&words)[kBits], int j) {
  constexpr uint32_t kMask = (1u << kBits) - 1;
  const int bit = kBits * j, word = bit / 32, shift = bit % 32;
  if (shift + kBits <= 32) return words[word] >> shift & kMask;
  return __funnelshift_r(words[word], words[word + 1 < kBits ? word + 1 : word], shift) & kMask;
}

// Codes of the eight channels of a unit, lowest first.
template <int kBits>
__device__ __forceinline__ uint32_t unit_of(const uint8_t* row, int unit) {
  if (kBits == 4) return reinterpret_cast<const uint32_t*>(row)[unit];
  if (kBits == 2) return reinterpret_cast<const uint16_t*>(row)[unit];
  const uint8_t* at = row + 3 * unit;
  return at[0] | static_cast<uint32_t>(at[1]) << 8 | static_cast<uint32_t>(at[2]) << 16;
}

template <int kHeads>
struct Shared {
  float2* turned;   // [dim / 2][kHeads] queries as the page's first token sees them
  float2* queries;  // [dim / 2][kHeads]
  float4* ranges;   // [dim / 2] middle and half width of both channels
  __half2* turns;   // [dim / 2][kTokens] cosine and sine
  double* frequencies;  // [dim / 2] radians a token
  float* scores;  // [2][kHeads][kTokens]: by both halves of the pairs; weights in the first
  float* out;     // [kHeads][dim]
  float *key_levels, *value_levels, *most, *sum, *kept;
};

template <int kHeads>
__host__ __device__ constexpr size_t shared_bytes(int dim) {
  return dim / 2 * (sizeof(float2) * 2 * kHeads + sizeof(float4) + sizeof(__half2) * kTokens + sizeof(double)) +
         sizeof(float) * (kHeads * (2 * kTokens + dim) + 32 + 3 * kHeads);
}

template <int kHeads>
__device__ Shared<kHeads> lay_out(char* room, int dim) {
  Shared<kHeads> s;
  const int pairs = dim / 2;
  s.ranges = reinterpret_cast<float4*>(room);
  s.turned = reinterpret_cast<float2*>(s.ranges + pairs);
  s.queries = s.turned + pairs * kHeads;
  s.frequencies = reinterpret_cast<double*>(s.queries + pairs * kHeads);
  s.turns = reinterpret_cast<__half2*>(s.frequencies + pairs);
  s.scores = reinterpret_cast<float*>(s.turns + pairs * kTokens);
  s.out = s.scores + 2 * kHeads * kTokens;
  s.key_levels = s.out + kHeads * dim;
  s.value_levels = s.key_levels + 16;
  s.most = s.value_levels + 16;
  s.sum = s.most + kHeads;
  s.kept = s.sum + kHeads;
  return s;
}

__device__ __forceinline__ float2 turn_of(double angle) {
  constexpr double kTurn = 6.283185307179586;
  float2 out;
  __sincosf(static_cast<float>(angle - kTurn * rint(angle * (1 / kTurn))), &out.y, &out.x);
  return out;
}

}  // namespace kvt
#endif
