// A tile of a matrix product on tensor cores: c[kTileM][kTileN] = a · b^T, rows of a made by the caller as they are
// needed (decoded, or a difference of gathered rows), b bf16 [n, k]. The result lies in shared memory in float, so that
// the caller's epilogue can read and write whole rows.
#ifndef KVTIER_CUDA_TILE_PRODUCT_H
#define KVTIER_CUDA_TILE_PRODUCT_H

#include <cuda_bf16.h>

#include "kernel.h"

namespace kvt {

constexpr int kTileM = 128;
constexpr int kTileN = 128;
constexpr int kTileK = 32;
constexpr int kTileThreads = 256;
// Padded by one access, so that the eight rows of an 8 x 8 block lie in different banks.
constexpr int kTileStride = kTileK + 8;
constexpr int kResultStride = kTileN + 4;
constexpr size_t kTileShared = sizeof(float) * kTileM * kResultStride;

__device__ __forceinline__ void load_block(uint32_t (&r)[4], const __nv_bfloat16* from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(from))));
}

// `a_part(m, k)`: 8 elements of row m of the tile from column k on. `b_rows`: rows of b that exist, from `b` on. k is a
// multiple of kTileK. `shared` has kTileShared bytes, aligned to 16; the result is [kTileM][kResultStride] in it.
template <typename APart>
__device__ void tile_product(float* shared, APart a_part, const __nv_bfloat16* b, int b_rows, int k) {
  constexpr int kParts = kTileM * kTileK / 8 / kTileThreads;  // of 8 elements, of a and of b, a thread
  auto* a_tile = reinterpret_cast<__nv_bfloat16*>(shared);
  __nv_bfloat16* b_tile = a_tile + 2 * kTileM * kTileStride;  // both twice: one is filled while the other is used
  const int thread = threadIdx.x;
  const int lane = thread & 31;
  const int warp_m = thread / 32 / 4 * 64;
  const int warp_n = thread / 32 % 4 * 32;
  uint4 a_next[kParts], b_next[kParts];
  const auto fetch = [&](int from) {
#pragma unroll
    for (int i = 0; i < kParts; i++) {
      const int part = thread + i * kTileThreads;
      const int row = part / (kTileK / 8);
      const int column = from + part % (kTileK / 8) * 8;
      a_next[i] = a_part(row, column);
      b_next[i] = row < b_rows ? *reinterpret_cast<const uint4*>(b + static_cast<int64_t>(row) * k + column)
                               : make_uint4(0, 0, 0, 0);
    }
  };
  const auto keep = [&](int buffer) {
#pragma unroll
    for (int i = 0; i < kParts; i++) {
      const int part = thread + i * kTileThreads;
      const int at = (buffer * kTileM + part / (kTileK / 8)) * kTileStride + part % (kTileK / 8) * 8;
      *reinterpret_cast<uint4*>(a_tile + at) = a_next[i];
      *reinterpret_cast<uint4*>(b_tile + at) = b_next[i];
    }
  };
  float c[4][4][4] = {};
  fetch(0);
  keep(0);
  __syncthreads();
  for (int from = 0, buffer = 0; from < k; from += kTileK, buffer ^= 1) {
    if (from + kTileK < k) fetch(from + kTileK);
    const __nv_bfloat16* a_now = a_tile + buffer * kTileM * kTileStride;
    const __nv_bfloat16* b_now = b_tile + buffer * kTileM * kTileStride;
#pragma unroll
    for (int step = 0; step < kTileK; step += 16) {
      uint32_t a[4][4], b_part[2][4];
#pragma unroll
      for (int m = 0; m < 4; m++)
        load_block(a[m], a_now + (warp_m + m * 16 + lane % 16) * kTileStride + step + lane / 16 * 8);
#pragma unroll
      for (int n = 0; n < 2; n++)
        load_block(b_part[n], b_now + (warp_n + n * 16 + lane % 16) * kTileStride + step + lane / 16 * 8);
#pragma unroll
      for (int m = 0; m < 4; m++)
#pragma unroll
        for (int n = 0; n < 4; n++) {
          float(&d)[4] = c[m][n];
          asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
              "{%0, %1, %2, %3};"
              : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
              : "r"(a[m][0]), "r"(a[m][1]), "r"(a[m][2]), "r"(a[m][3]), "r"(b_part[n / 2][n & 1]),
                "r"(b_part[n / 2][(n & 1) + 2]));
        }
    }
    if (from + kTileK < k) keep(buffer ^ 1);
    __syncthreads();
  }
#pragma unroll
  for (int m = 0; m < 4; m++)
#pragma unroll
    for (int n = 0; n < 4; n++) {
      float* at = shared + (warp_m + m * 16 + lane / 4) * kResultStride + warp_n + n * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(at) = make_float2(c[m][n][0], c[m][n][1]);
      *reinterpret_cast<float2*>(at + 8 * kResultStride) = make_float2(c[m][n][2], c[m][n][3]);
    }
  __syncthreads();
}

// Eight bf16 as floats, and back.
__device__ __forceinline__ void widen_part(uint4 part, float (&out)[8]) {
  const uint32_t words[4] = {part.x, part.y, part.z, part.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    out[2 * i] = __uint_as_float(words[i] << 16);
    out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

__device__ __forceinline__ uint4 narrow_part(const float (&in)[8]) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(in[2 * i], in[2 * i + 1]);
    words[i] = reinterpret_cast<const uint32_t&>(pair);
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

}  // namespace kvt
#endif
