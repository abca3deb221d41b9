// ShadowKV's rebuilding of keys (calls/low-rank-rebuild.ts): a block takes 128 chosen tokens of a row, and turns the
// product's rows where they go out, eight channels of each half a thread.
#include "launch.h"
#include "tile-product.h"

namespace {

using namespace kvt;

struct Rebuild {
  const uint32_t* chosen;
  const __nv_bfloat16* factors;
  const __nv_bfloat16* directions;
  const __nv_bfloat16* turns;
  __nv_bfloat16* out;
  int kv_heads, count, dim, rank;
  int64_t tokens;
};

__global__ void __launch_bounds__(kTileThreads, 2) rebuild_keys(const Rebuild p) {
  begin_kernel();
  extern __shared__ float shared[];
  __shared__ uint32_t tokens[kTileM];
  const int first = blockIdx.x * kTileM;
  const int64_t row = blockIdx.y;
  const uint32_t* const chosen = p.chosen + row * p.count;
  if (threadIdx.x < kTileM) tokens[threadIdx.x] = chosen[min(first + static_cast<int>(threadIdx.x), p.count - 1)];
  __syncthreads();
  const __nv_bfloat16* const factors = p.factors + row / p.kv_heads * p.tokens * p.rank;
  const auto factor = [&](int m, int k) {
    return *reinterpret_cast<const uint4*>(factors + static_cast<int64_t>(tokens[m]) * p.rank + k);
  };
  tile_product(shared, factor, p.directions + row * p.dim * p.rank, p.dim, p.rank);
  const int half = p.dim / 2, parts = half / 8;
  for (int i = threadIdx.x; i < kTileM * parts; i += kTileThreads) {
    const int m = i / parts, at = i % parts * 8;
    if (first + m >= p.count) return;
    const __nv_bfloat16* const turn = p.turns + static_cast<int64_t>(tokens[m]) * p.dim + at;
    float cosine[8], sine[8], low[8], high[8];
    widen_part(*reinterpret_cast<const uint4*>(turn), cosine);
    widen_part(*reinterpret_cast<const uint4*>(turn + half), sine);
    const float* const key = shared + m * kResultStride + at;
#pragma unroll
    for (int c = 0; c < 8; c++) {
      low[c] = key[c] * cosine[c] - key[half + c] * sine[c];
      high[c] = key[half + c] * cosine[c] + key[c] * sine[c];
    }
    __nv_bfloat16* const to = p.out + (row * p.count + first + m) * p.dim + at;
    *reinterpret_cast<uint4*>(to) = narrow_part(low);
    *reinterpret_cast<uint4*>(to + half) = narrow_part(high);
  }
}

kvt_status low_rank_rebuild(const CudaCall& call) {
  const int64_t rows = call.integer(KVT_LOW_RANK_REBUILD_INT_ROWS);
  const int64_t kv_heads = call.integer(KVT_LOW_RANK_REBUILD_INT_KV_HEADS);
  const int64_t count = call.integer(KVT_LOW_RANK_REBUILD_INT_COUNT);
  const int64_t tokens = call.integer(KVT_LOW_RANK_REBUILD_INT_TOKENS);
  const int64_t dim = call.integer(KVT_LOW_RANK_REBUILD_INT_HEAD_DIM);
  const int64_t rank = call.integer(KVT_LOW_RANK_REBUILD_INT_RANK);
  if (rows < 1 || rows > 65535 || kv_heads < 1 || rows % kv_heads != 0 || count < 1 || tokens < 1)
    return fail(KVT_INVALID, "low-rank-rebuild: expected rows of whole sequences, 65535 or fewer, count and tokens 1 or more");
  if (dim < 16 || dim % 16 != 0 || dim > kTileN || rank < kTileK || rank % kTileK != 0)
    return fail(KVT_UNSUPPORTED, "low-rank-rebuild: headDim %lld and rank %lld, expected a multiple of 16 up to %d and one of %d",
                static_cast<long long>(dim), static_cast<long long>(rank), kTileN, kTileK);
  Rebuild p{};
  p.chosen = call.at<const uint32_t>(KVT_LOW_RANK_REBUILD_REF_CHOSEN);
  p.factors = call.at<const __nv_bfloat16>(KVT_LOW_RANK_REBUILD_REF_FACTORS);
  p.directions = call.at<const __nv_bfloat16>(KVT_LOW_RANK_REBUILD_REF_DIRECTIONS);
  p.turns = call.at<const __nv_bfloat16>(KVT_LOW_RANK_REBUILD_REF_TURNS);
  p.out = call.at<__nv_bfloat16>(KVT_LOW_RANK_REBUILD_REF_OUT);
  p.kv_heads = static_cast<int>(kv_heads);
  p.count = static_cast<int>(count);
  p.dim = static_cast<int>(dim);
  p.rank = static_cast<int>(rank);
  p.tokens = tokens;
  static const cudaError_t raised =
      cudaFuncSetAttribute(rebuild_keys, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kTileShared));
  if (raised != cudaSuccess) return fail(KVT_FAULT, "low-rank-rebuild: %s", cudaGetErrorString(raised));
  const dim3 grid(static_cast<unsigned>((count + kTileM - 1) / kTileM), static_cast<unsigned>(rows));
  launch_kernel(call, rebuild_keys, {grid, kTileThreads, kTileShared}, p);
  return after_launch("low-rank-rebuild");
}

KVT_CUDA_KERNEL(KVT_LOW_RANK_REBUILD, low_rank_rebuild);

}  // namespace
