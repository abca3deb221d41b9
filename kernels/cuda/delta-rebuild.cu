// DeltaKV's rebuilding (calls/delta-rebuild.ts): coordinates are decoded as the product takes them; the references' mean
// is added where the rows go out, eight channels a thread.
#include <cuda_fp16.h>

#include "delta.h"

namespace {

using namespace kvt;

struct Rebuild {
  const uint32_t* chosen;
  const uint8_t* latents;
  const __half2* scales;  // scale and minimum of 32 coordinates
  References references;
  const __nv_bfloat16* up;
  __nv_bfloat16* out;
  int tokens, latent_dim, bits;
};

__global__ void __launch_bounds__(kTileThreads, 2) rebuild(const Rebuild p) {
  extern __shared__ float shared[];
  __shared__ uint32_t tokens[kTileM];
  const int width = p.references.width;
  const int first = blockIdx.y * kTileM;
  const int column = blockIdx.x * kTileN;
  if (threadIdx.x < kTileM) tokens[threadIdx.x] = p.chosen[min(first + static_cast<int>(threadIdx.x), p.tokens - 1)];
  __syncthreads();
  const auto decoded = [&](int m, int k) {
    const int64_t token = tokens[m];
    if (p.bits == 16) return *reinterpret_cast<const uint4*>(p.latents + (token * p.latent_dim + k) * 2);
    const uint32_t codes = *reinterpret_cast<const uint32_t*>(p.latents + (token * p.latent_dim + k) / 2);
    const float2 scale = __half22float2(p.scales[token * (p.latent_dim / 32) + k / 32]);
    const float least = fmaf(-128.0f, scale.x, scale.y);
    float values[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
      // A code in the upper bits of 128's mantissa is 128 + code: no conversion, which the chip does slowly.
      const uint32_t word = i < 4 ? codes << (16 - 4 * i) : codes >> (4 * i - 16);
      values[i] = fmaf(__uint_as_float((word & 0x000f0000u) | 0x43000000u), scale.x, least);
    }
    return narrow_part(values);
  };
  const int columns = min(kTileN, width - column);
  tile_product(shared, decoded, p.up + static_cast<int64_t>(column) * p.latent_dim, columns, p.latent_dim);
  constexpr int kParts = kTileN / 8;
  const int at = threadIdx.x % kParts * 8;
  if (at >= columns) return;
#pragma unroll 2
  for (int m = threadIdx.x / kParts; m < kTileM && first + m < p.tokens; m += kTileThreads / kParts) {
    float values[8];
    p.references.mean(tokens[m], column + at, values);
    const float4* product = reinterpret_cast<const float4*>(shared + m * kResultStride + at);
    const float4 low = product[0], high = product[1];
    values[0] += low.x, values[1] += low.y, values[2] += low.z, values[3] += low.w;
    values[4] += high.x, values[5] += high.y, values[6] += high.z, values[7] += high.w;
    *reinterpret_cast<uint4*>(p.out + static_cast<int64_t>(first + m) * width + column + at) = narrow_part(values);
  }
}

kvt_status delta_rebuild(const CudaCall& call) {
  const int64_t tokens = call.integer(KVT_DELTA_REBUILD_INT_TOKENS);
  const int64_t width = call.integer(KVT_DELTA_REBUILD_INT_WIDTH);
  const int64_t latents = call.integer(KVT_DELTA_REBUILD_INT_LATENT_DIM);
  const int64_t neighbours = call.integer(KVT_DELTA_REBUILD_INT_NEIGHBOURS);
  const int64_t bits = call.integer(KVT_DELTA_REBUILD_INT_BITS);
  const auto* scales = call.at<const __half2>(KVT_DELTA_REBUILD_REF_SCALES);
  if (const kvt_status status = check_delta("delta-rebuild", tokens, width, latents, neighbours, bits, scales != nullptr))
    return status;
  Rebuild p{};
  p.chosen = call.at<const uint32_t>(KVT_DELTA_REBUILD_REF_CHOSEN);
  p.latents = call.at<const uint8_t>(KVT_DELTA_REBUILD_REF_LATENTS);
  p.scales = scales;
  p.references = {call.at<const __nv_bfloat16>(KVT_DELTA_REBUILD_REF_REFERENCES),
                  call.at<const uint32_t>(KVT_DELTA_REBUILD_REF_NEAR), static_cast<int>(width),
                  static_cast<int>(neighbours)};
  p.up = call.at<const __nv_bfloat16>(KVT_DELTA_REBUILD_REF_UP);
  p.out = call.at<__nv_bfloat16>(KVT_DELTA_REBUILD_REF_OUT);
  p.tokens = static_cast<int>(tokens);
  p.latent_dim = static_cast<int>(latents);
  p.bits = static_cast<int>(bits);
  cudaFuncSetAttribute(rebuild, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kTileShared));
  const dim3 grid(static_cast<unsigned>((width + kTileN - 1) / kTileN), static_cast<unsigned>((tokens + kTileM - 1) / kTileM));
  rebuild<<<grid, kTileThreads, kTileShared, call.stream>>>(p);
  return after_launch("delta-rebuild");
}

KVT_CUDA_KERNEL(KVT_DELTA_REBUILD, delta_rebuild);

}  // namespace
