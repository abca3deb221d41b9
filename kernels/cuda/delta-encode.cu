// DeltaKV's residuals (calls/delta-encode.ts): differences to the references' mean are taken as the product needs them;
// a thread then quantises a group of 32 coordinates.
#include <cuda_fp16.h>

#include "delta.h"
#include "launch.h"

namespace {

using namespace kvt;

constexpr int kGroup = 32;

struct Encode {
  const __nv_bfloat16* rows;
  References references;
  const __nv_bfloat16* down;
  uint8_t* latents;
  __half2* scales;
  int tokens, latent_dim, bits;
};

// Codes of a group: scale and minimum in half precision, as they are stored.
__device__ __forceinline__ __half2 quantise(const float* values, uint32_t (&words)[4]) {
  float least = values[0], most = values[0];
  for (int i = 1; i < kGroup; i++) {
    least = fminf(least, values[i]);
    most = fmaxf(most, values[i]);
  }
  const __half2 stored = __floats2half2_rn((most - least) / 15, least);
  const float2 scale = __half22float2(stored);
  const float inverse = scale.x == 0 ? 0 : 1 / scale.x;
  for (int w = 0; w < 4; w++) {
    words[w] = 0;
    for (int i = 0; i < 8; i++) {
      const float code = fminf(15, fmaxf(0, floorf((values[8 * w + i] - scale.y) * inverse + 0.5f)));
      words[w] |= static_cast<uint32_t>(code) << (4 * i);
    }
  }
  return stored;
}

__global__ void __launch_bounds__(kTileThreads, 1) encode(const Encode p) {
  begin_kernel();
  extern __shared__ float shared[];
  const int width = p.references.width;
  const int first = blockIdx.y * kTileM;
  const int column = blockIdx.x * kTileN;
  const auto residual = [&](int m, int k) {
    const int64_t token = min(first + m, p.tokens - 1);
    float values[8], mean[8];
    widen_part(*reinterpret_cast<const uint4*>(p.rows + token * width + k), values);
    p.references.mean(p.references.near + token * p.references.neighbours, k, mean);
#pragma unroll
    for (int i = 0; i < 8; i++) values[i] -= mean[i];
    return narrow_part(values);
  };
  const int columns = min(kTileN, p.latent_dim - column);
  tile_product(shared, residual, p.down + static_cast<int64_t>(column) * width, columns, width);
  for (int i = threadIdx.x; i < kTileM * kTileN / kGroup; i += kTileThreads) {
    const int m = i / (kTileN / kGroup);
    const int at = i % (kTileN / kGroup) * kGroup;
    if (first + m >= p.tokens || at >= columns) continue;
    const float* values = shared + m * kResultStride + at;
    const int64_t place = static_cast<int64_t>(first + m) * p.latent_dim + column + at;
    if (p.bits == 16) {
      for (int c = 0; c < kGroup; c += 8) {
        float part[8];
        for (int j = 0; j < 8; j++) part[j] = values[c + j];
        *reinterpret_cast<uint4*>(p.latents + (place + c) * 2) = narrow_part(part);
      }
    } else {
      uint32_t words[4];
      p.scales[place / kGroup] = quantise(values, words);
      *reinterpret_cast<uint4*>(p.latents + place / 2) = make_uint4(words[0], words[1], words[2], words[3]);
    }
  }
}

kvt_status delta_encode(const CudaCall& call) {
  const int64_t tokens = call.integer(KVT_DELTA_ENCODE_INT_TOKENS);
  const int64_t width = call.integer(KVT_DELTA_ENCODE_INT_WIDTH);
  const int64_t latents = call.integer(KVT_DELTA_ENCODE_INT_LATENT_DIM);
  const int64_t neighbours = call.integer(KVT_DELTA_ENCODE_INT_NEIGHBOURS);
  const int64_t bits = call.integer(KVT_DELTA_ENCODE_INT_BITS);
  auto* scales = call.at<__half2>(KVT_DELTA_ENCODE_REF_SCALES);
  if (const kvt_status status = check_delta("delta-encode", tokens, width, latents, neighbours, bits, scales != nullptr))
    return status;
  Encode p{};
  p.rows = call.at<const __nv_bfloat16>(KVT_DELTA_ENCODE_REF_ROWS);
  p.references = {call.at<const __nv_bfloat16>(KVT_DELTA_ENCODE_REF_REFERENCES),
                  call.at<const uint32_t>(KVT_DELTA_ENCODE_REF_NEAR), static_cast<int>(width),
                  static_cast<int>(neighbours)};
  p.down = call.at<const __nv_bfloat16>(KVT_DELTA_ENCODE_REF_DOWN);
  p.latents = call.at<uint8_t>(KVT_DELTA_ENCODE_REF_LATENTS);
  p.scales = scales;
  p.tokens = static_cast<int>(tokens);
  p.latent_dim = static_cast<int>(latents);
  p.bits = static_cast<int>(bits);
  cudaFuncSetAttribute(encode, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kTileShared));
  const dim3 grid(static_cast<unsigned>((latents + kTileN - 1) / kTileN), static_cast<unsigned>((tokens + kTileM - 1) / kTileM));
  launch_kernel(call, encode, {grid, kTileThreads, kTileShared}, p);
  return after_launch("delta-encode");
}

KVT_CUDA_KERNEL(KVT_DELTA_ENCODE, delta_encode);

}  // namespace
