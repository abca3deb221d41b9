// What DeltaKV's kernels share: the mean of a token's references, eight channels at a time (delta.ts).
#ifndef KVTIER_CUDA_DELTA_H
#define KVTIER_CUDA_DELTA_H

#include "tile-product.h"

namespace kvt {

constexpr uint32_t kNoReference = 0xffffffffu;
constexpr int kMostNeighbours = 8;

struct References {
  const __nv_bfloat16* rows;  // [., width]
  const uint32_t* near;       // [tokens, neighbours]
  int width, neighbours;

  // Eight channels of the mean of the references `of`, from `column` on; zero where there are none.
  __device__ __forceinline__ void mean(const uint32_t* of, int column, float (&out)[8]) const {
    constexpr int kTogether = 4;
    int found = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) out[i] = 0;
#pragma unroll
    for (int first = 0; first < kMostNeighbours; first += kTogether) {
      if (first >= neighbours) break;
      uint4 parts[kTogether];
#pragma unroll
      for (int n = 0; n < kTogether; n++) {
        const uint32_t at = first + n < neighbours ? of[first + n] : kNoReference;
        const bool is_there = at != kNoReference;
        found += is_there;
        parts[n] = is_there ? *reinterpret_cast<const uint4*>(rows + static_cast<int64_t>(at) * width + column)
                            : make_uint4(0, 0, 0, 0);
      }
#pragma unroll
      for (int n = 0; n < kTogether; n++) {
        float values[8];
        widen_part(parts[n], values);
#pragma unroll
        for (int i = 0; i < 8; i++) out[i] += values[i];
      }
    }
    const float share = found > 0 ? 1.0f / found : 0;
#pragma unroll
    for (int i = 0; i < 8; i++) out[i] *= share;
  }
};

inline kvt_status check_delta(const char* kernel, int64_t tokens, int64_t width, int64_t latents, int64_t neighbours,
                              int64_t bits, bool scales) {
  if (tokens < 1 || width < 32 || width % 32 != 0 || latents < 32 || latents % 32 != 0)
    return fail(KVT_INVALID, "%s: expected tokens 1 or more, width and latentDim multiples of 32", kernel);
  if (neighbours < 1 || neighbours > kMostNeighbours || (bits != 4 && bits != 16) || (bits == 4 && !scales))
    return fail(KVT_INVALID, "%s: expected neighbours 1 to 8, and bits 16, or 4 with scales", kernel);
  return KVT_OK;
}

}  // namespace kvt
#endif
