// ParisKV's rotation and code on the device (paris.ts has the formulas): a warp holds a rotated row, channel
// lane * kPer + i in register i, so that the Hadamard transform is additions in registers and five shuffles a channel.
#ifndef KVTIER_CUDA_PARIS_H
#define KVTIER_CUDA_PARIS_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernel.h"

namespace kvt {

constexpr int kSubspace = 8;
constexpr int kPatterns = 256;
constexpr int kLevels = 8;
[[maybe_unused]] static __device__ __constant__ float kCentres[kLevels] = {0.042f,  0.1266f, 0.213f,  0.3025f,
                                                                           0.3973f, 0.5001f, 0.6169f, 0.7633f};

// Multiplies by the signs and transforms, scaled by 1 / sqrt(dim).
template <int kPer>
__device__ __forceinline__ void rotate(float (&x)[kPer], const float* signs) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int i = 0; i < kPer; i++) x[i] *= signs[lane * kPer + i];
#pragma unroll
  for (int half = 1; half < kPer; half *= 2)
#pragma unroll
    for (int i = 0; i < kPer; i++)
      if ((i & half) == 0) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
#pragma unroll
  for (int by = 1; by < 32; by *= 2)
#pragma unroll
    for (int i = 0; i < kPer; i++) {
      const float other = __shfl_xor_sync(~0u, x[i], by);
      x[i] = (lane & by) != 0 ? other - x[i] : x[i] + other;
    }
  const float scale = rsqrtf(32.0f * kPer);
#pragma unroll
  for (int i = 0; i < kPer; i++) x[i] *= scale;
}

// Channels of a query that a lane holds.
template <int kPer>
struct alignas(kPer < 8 ? 2 * kPer : 16) QueryPart {
  __nv_bfloat16 channels[kPer];
};

// The mean of a row's queries [group, head_dim], rotated. Several are on their way together, the last again in place of
// those beyond it: one after the other, sixteen would take as long as all that follows.
template <int kPer>
__device__ __forceinline__ void rotated_query(float (&x)[kPer], const __nv_bfloat16* queries, int group, int head_dim,
                                              const float* signs) {
  using Part = QueryPart<kPer>;
  constexpr int kHeads = kPer <= 4 ? 8 : kPer < 32 ? 32 / kPer : 1;
  const int first = (threadIdx.x & 31) * kPer;
  const auto add = [&](auto load) {
    for (int from = 0; from < group; from += kHeads) {
      Part parts[kHeads];
#pragma unroll
      for (int h = 0; h < kHeads; h++) parts[h] = load(queries + min(from + h, group - 1) * head_dim);
#pragma unroll
      for (int h = 0; h < kHeads; h++)
#pragma unroll
        for (int i = 0; i < kPer; i++)
          if (from + h < group && first + i < head_dim) x[i] += __bfloat162float(parts[h].channels[i]);
    }
  };
#pragma unroll
  for (int i = 0; i < kPer; i++) x[i] = 0;
  if (head_dim % kPer == 0 && reinterpret_cast<uintptr_t>(queries) % alignof(Part) == 0)
    add([&](const __nv_bfloat16* query) {
      return *reinterpret_cast<const Part*>(query + min(first, head_dim - kPer));
    });
  else
    add([&](const __nv_bfloat16* query) {
      Part part;
#pragma unroll
      for (int i = 0; i < kPer; i++) part.channels[i] = query[min(first + i, head_dim - 1)];
      return part;
    });
#pragma unroll
  for (int i = 0; i < kPer; i++) x[i] /= group;
  rotate<kPer>(x, signs);
}

inline int padded_dim(int64_t head_dim) {
  int dim = kSubspace;
  while (dim < head_dim) dim *= 2;
  return dim;
}

// Calls f with the registers a lane needs as a compile-time number; false for a dim that has none.
template <typename F>
bool for_padded_dim(int dim, F f) {
  switch (dim) {
    case 64: f(std::integral_constant<int, 2>()); return true;
    case 128: f(std::integral_constant<int, 4>()); return true;
    case 256: f(std::integral_constant<int, 8>()); return true;
    case 512: f(std::integral_constant<int, 16>()); return true;
    case 1024: f(std::integral_constant<int, 32>()); return true;
    default: return false;
  }
}

}  // namespace kvt
#endif
