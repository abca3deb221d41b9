// DeltaKV's rebuilding (calls/delta-rebuild.ts): a tile of tokens and channels a block. Coordinates and the matrix come to
// shared memory by copies that run ahead; codes become operands of the tensor cores in registers; the references' mean is
// added where rows go out, eight channels a thread.
#include <cuda_fp16.h>

#include "delta.h"
#include "launch.h"
#include "mma.cuh"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
constexpr int kTokens = 128, kColumns = 128;
constexpr int kDepth = 32;  // coordinates of a stage, which share a scale
constexpr int kStages = 4;
constexpr int kWarpTokens = 32, kWarpColumns = 64;
constexpr int kRow = 2 * kDepth;  // bytes of a row of the matrix, or of coordinates in bf16
constexpr int kCodeRow = kDepth / 2;
constexpr int kMatrix = kColumns * kRow;
constexpr int kSumStride = kColumns + 4;
// Bytes of a stage: rows of the matrix, coordinates, and (4 bits) a scale a token.
template <int Bits>
constexpr int kStage = kMatrix + kTokens * (kDepth * Bits / 8 + (Bits == 4 ? 4 : 0));
template <int Bits>
constexpr int kShared =
    kStages * kStage<Bits> > 4 * kTokens * kSumStride ? kStages * kStage<Bits> : 4 * kTokens * kSumStride;

struct Rebuild {
  const uint32_t* chosen;
  const uint8_t* latents;
  const __half2* scales;  // scale and minimum of 32 coordinates
  References references;
  const __nv_bfloat16* up;
  __nv_bfloat16* out;
  int tokens, latent_dim;
};

template <int Bytes>
__device__ __forceinline__ void copy_ahead(char* to, const void* from) {
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  if constexpr (Bytes == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
  else asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(at), "l"(from), "n"(Bytes) : "memory");
}

// Of each row a lane has coordinates 8 c to 8 c + 7 of the stage, two multiplications' worth: a sum over coordinates may
// take them in any order, so that all of them come in one access.
template <int Bits>
class Tile {
  const Rebuild& p;
  char* const shared;
  const uint32_t* const tokens;
  const int column, columns, lane, warp_token, warp_column;
  float sums[kWarpTokens / 16][kWarpColumns / 8][4] = {};

 public:
  __device__ Tile(const Rebuild& own, char* memory, const uint32_t* of_rows, int first_column)
      : p(own),
        shared(memory),
        tokens(of_rows),
        column(first_column),
        columns(min(kColumns, p.references.width - first_column)),
        lane(threadIdx.x % 32),
        warp_token(threadIdx.x / 32 % 4 * kWarpTokens),
        warp_column(threadIdx.x / 128 * kWarpColumns) {}

  __device__ __forceinline__ void multiply() {
    const int stages = p.latent_dim / kDepth;
#pragma unroll
    for (int s = 0; s < kStages - 1; s++) fetch(s, stages);
    for (int s = 0; s < stages; s++) {
      asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory");
      __syncthreads();
      fetch(s + kStages - 1, stages);
      add(shared + s % kStages * kStage<Bits>);
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    __syncthreads();
    float* const to = reinterpret_cast<float*>(shared);
#pragma unroll
    for (int m = 0; m < kWarpTokens / 16; m++)
#pragma unroll
      for (int n = 0; n < kWarpColumns / 8; n++) {
        float* const at = to + (warp_token + 16 * m + lane / 4) * kSumStride + warp_column + 8 * n + lane % 4 * 2;
        *reinterpret_cast<float2*>(at) = make_float2(sums[m][n][0], sums[m][n][1]);
        *reinterpret_cast<float2*>(at + 8 * kSumStride) = make_float2(sums[m][n][2], sums[m][n][3]);
      }
    __syncthreads();
  }

 private:
  // Always a group, so that waits count stages.
  __device__ __forceinline__ void fetch(int s, int stages) {
    if (s < stages) {
      char* const to = shared + s % kStages * kStage<Bits>;
      const int from = s * kDepth;
#pragma unroll
      for (int i = 0; i < kMatrix / 16 / kThreads; i++) {
        const int part = threadIdx.x + i * kThreads, row = min(part / 4, columns - 1);
        copy_ahead<16>(to + 16 * part, p.up + static_cast<int64_t>(column + row) * p.latent_dim + from + part % 4 * 8);
      }
      char* const latents = to + kMatrix;
      if constexpr (Bits == 16) {
#pragma unroll
        for (int i = 0; i < kTokens * kRow / 16 / kThreads; i++) {
          const int part = threadIdx.x + i * kThreads;
          copy_ahead<16>(latents + 16 * part,
                         p.latents + (static_cast<int64_t>(tokens[part / 4]) * p.latent_dim + from + part % 4 * 8) * 2);
        }
      } else {
        const int row = threadIdx.x % kTokens;
        const int64_t token = tokens[row];
        if (threadIdx.x < kTokens) copy_ahead<16>(latents + kCodeRow * row, p.latents + (token * p.latent_dim + from) / 2);
        else copy_ahead<4>(latents + kTokens * kCodeRow + 4 * row, p.scales + token * (p.latent_dim / kDepth) + s);
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  __device__ __forceinline__ void add(const char* stage) {
    uint32_t a[kWarpTokens / 8][4];
#pragma unroll
    for (int m = 0; m < kWarpTokens / 8; m++) decode(stage + kMatrix, warp_token + 8 * m + lane / 4, a[m]);
#pragma unroll
    for (int n = 0; n < kWarpColumns / 8; n++) {
      const uint4 b = *reinterpret_cast<const uint4*>(stage + (warp_column + 8 * n + lane / 4) * kRow + lane % 4 * 16);
#pragma unroll
      for (int m = 0; m < kWarpTokens / 16; m++) {
        const uint32_t(&low)[4] = a[2 * m], (&high)[4] = a[2 * m + 1];
        mma<Bf16>(sums[m][n], low[0], high[0], low[1], high[1], b.x, b.y);
        mma<Bf16>(sums[m][n], low[2], high[2], low[3], high[3], b.z, b.w);
      }
    }
  }

  __device__ __forceinline__ void decode(const char* latents, int row, uint32_t (&out)[4]) const {
    if constexpr (Bits == 16) {
      const uint4 words = *reinterpret_cast<const uint4*>(latents + row * kRow + lane % 4 * 16);
      out[0] = words.x, out[1] = words.y, out[2] = words.z, out[3] = words.w;
    } else {
      const uint32_t codes = *reinterpret_cast<const uint32_t*>(latents + row * kCodeRow + lane % 4 * 4);
      const float2 scale =
          __half22float2(*reinterpret_cast<const __half2*>(latents + kTokens * kCodeRow + 4 * row));
      const float least = fmaf(-128.0f, scale.x, scale.y);
      float values[8];
#pragma unroll
      for (int i = 0; i < 8; i++) {
        // A code in the upper bits of 128's mantissa is 128 + code: no conversion, which the chip does slowly.
        const uint32_t word = i < 4 ? codes << (16 - 4 * i) : codes >> (4 * i - 16);
        values[i] = fmaf(__uint_as_float((word & 0x000f0000u) | 0x43000000u), scale.x, least);
      }
#pragma unroll
      for (int i = 0; i < 4; i++) out[i] = Bf16::pack(values[2 * i], values[2 * i + 1]);
    }
  }
};

template <int Bits>
__global__ void __launch_bounds__(kThreads, 2) rebuild(const Rebuild p) {
  begin_kernel();
  extern __shared__ __align__(16) char shared[];
  __shared__ uint32_t tokens[kTokens], near[kTokens * kMostNeighbours];
  const int width = p.references.width;
  const int first = blockIdx.y * kTokens;
  const int column = blockIdx.x * kColumns;
  if (threadIdx.x < kTokens) tokens[threadIdx.x] = p.chosen[min(first + static_cast<int>(threadIdx.x), p.tokens - 1)];
  __syncthreads();
  const int neighbours = p.references.neighbours;
  for (int i = threadIdx.x; i < kTokens * neighbours; i += kThreads)
    near[i] = p.references.near[static_cast<int64_t>(tokens[i / neighbours]) * neighbours + i % neighbours];
  Tile<Bits> tile(p, shared, tokens, column);
  tile.multiply();
  constexpr int kParts = kColumns / 8;
  const int at = threadIdx.x % kParts * 8;
  if (at >= width - column) return;
#pragma unroll 4
  for (int m = threadIdx.x / kParts; m < kTokens && first + m < p.tokens; m += kThreads / kParts) {
    float values[8];
    p.references.mean(near + m * neighbours, column + at, values);
    const float4* product = reinterpret_cast<const float4*>(reinterpret_cast<const float*>(shared) + m * kSumStride + at);
    const float4 low = product[0], high = product[1];
    values[0] += low.x, values[1] += low.y, values[2] += low.z, values[3] += low.w;
    values[4] += high.x, values[5] += high.y, values[6] += high.z, values[7] += high.w;
    *reinterpret_cast<uint4*>(p.out + static_cast<int64_t>(first + m) * width + column + at) = narrow_part(values);
  }
}

template <int Bits>
void launch(const CudaCall& call, const Rebuild& p) {
  cudaFuncSetAttribute(rebuild<Bits>, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared<Bits>);
  const dim3 grid(static_cast<unsigned>((p.references.width + kColumns - 1) / kColumns),
                  static_cast<unsigned>((p.tokens + kTokens - 1) / kTokens));
  launch_kernel(call, rebuild<Bits>, {grid, kThreads, kShared<Bits>}, p);
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
  for (const void* from : {static_cast<const void*>(p.latents), static_cast<const void*>(p.up),
                           static_cast<const void*>(p.references.rows), static_cast<const void*>(p.out)})
    if (reinterpret_cast<uintptr_t>(from) % 16 != 0)
      return fail(KVT_INVALID, "delta-rebuild: latents, references, up and out must lie at multiples of 16 bytes");
  if (bits == 16) launch<16>(call, p);
  else launch<4>(call, p);
  return after_launch("delta-rebuild");
}

KVT_CUDA_KERNEL(KVT_DELTA_REBUILD, delta_rebuild);

}  // namespace
