// Projection of a few tokens on CUDA; arguments in calls/gemm.ts. Weights stream from memory straight into tensor-core
// operands (out^T = W x^T); a lane's 16 bytes of a row are two operands of m16n8k16, the tokens follow in that order.
// Blocks take equal stretches of all (tile of rows, step of k), so that any shape fills the machine; whoever ends a
// tile last adds up its parts, in order.
#include "launch.h"
#include "last-block.cuh"
#include "mma.cuh"

namespace {

using namespace kvt;

constexpr int kWarps = 8;
constexpr int kStep = 128;  // of k, a warp at a time
constexpr int kChunks = kStep / 32;
constexpr int kCounters = 1 << 14;
__device__ uint32_t tile_counters[KVT_STREAMS][kCounters];

struct GemmArguments {
  const char* x;
  const char* weights;
  void* out;
  float* partials;  // two slots a block of [tokens of a tile, rows of a tile]
  uint32_t* counters;
  int m, n, k;
  int half_out;
  int first_token;
};

// RowTiles x 16 rows of weights by TokenTiles x 8 tokens.
template <int RowTiles, int TokenTiles>
struct Gemm {
  static constexpr int kRows = 16 * RowTiles;
  static constexpr int kTokens = 8 * TokenTiles;
  static constexpr int kTile = kRows * kTokens;
  static constexpr int kDepth = RowTiles == 1 ? 2 : 1;
  // Blocks a multiprocessor: what its registers hold.
  static constexpr int kBlocks = RowTiles == 1 ? 2 : 1;

  uint32_t w[kDepth][RowTiles][2][kChunks][4];

  __device__ __forceinline__ void load(int at, const GemmArguments& a, int tile, int step, int g, int c) {
#pragma unroll
    for (int r = 0; r < RowTiles; r++)
#pragma unroll
      for (int s = 0; s < 2; s++) {
        const int row = min(tile * kRows + 16 * r + 8 * s + g, a.n - 1);
        const char* from = a.weights + 2 * (static_cast<int64_t>(row) * a.k + step * kStep);
#pragma unroll
        for (int i = 0; i < kChunks; i++) {
          uint32_t (&to)[4] = w[at][r][s][i];
          if (step * kStep + 8 * (4 * i + c) < a.k)
            asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
                         : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                         : "l"(from + 16 * (4 * i + c)));
          else to[0] = to[1] = to[2] = to[3] = 0;
        }
      }
  }

  __device__ __forceinline__ void multiply(int at, const GemmArguments& a, int step, int g, int c,
                                           float (&sums)[RowTiles][TokenTiles][4]) const {
#pragma unroll
    for (int t = 0; t < TokenTiles; t++) {
      const int token = a.first_token + 8 * t + g;
      const char* from = a.x + 2 * (static_cast<int64_t>(token) * a.k + step * kStep);
#pragma unroll
      for (int i = 0; i < kChunks; i++) {
        uint4 x = {0, 0, 0, 0};
        if (token < a.m && step * kStep + 8 * (4 * i + c) < a.k)
          x = __ldg(reinterpret_cast<const uint4*>(from + 16 * (4 * i + c)));
#pragma unroll
        for (int r = 0; r < RowTiles; r++) {
          const uint32_t (&low)[4] = w[at][r][0][i], (&high)[4] = w[at][r][1][i];
          mma<Bf16>(sums[r][t], low[0], high[0], low[1], high[1], x.x, x.y);
          mma<Bf16>(sums[r][t], low[2], high[2], low[3], high[3], x.z, x.w);
        }
      }
    }
  }
};

__device__ __forceinline__ void write(const GemmArguments& a, int row, int token, float sum) {
  if (row >= a.n || token >= a.m) return;
  const int64_t at = static_cast<int64_t>(token) * a.n + row;
  if (a.half_out) static_cast<uint16_t*>(a.out)[at] = static_cast<uint16_t>(Bf16::pack(sum, 0));
  else static_cast<float*>(a.out)[at] = sum;
}

// Sums of one tile by one warp, over the steps [first, past) that are its own.
template <int RowTiles, int TokenTiles>
__device__ __forceinline__ void sum_steps(const GemmArguments& a, int tile, int first, int past, int warp, int g, int c,
                                          float (&sums)[RowTiles][TokenTiles][4]) {
  using Tile = Gemm<RowTiles, TokenTiles>;
  constexpr int depth = Tile::kDepth;
  Tile gemm;
#pragma unroll
  for (int d = 0; d < depth; d++)
    if (first + warp + d * kWarps < past) gemm.load(d, a, tile, first + warp + d * kWarps, g, c);
  for (int step = first + warp; step < past; step += depth * kWarps) {
#pragma unroll
    for (int d = 0; d < depth; d++) {
      const int now = step + d * kWarps;
      if (now >= past) break;
      gemm.multiply(d, a, now, g, c, sums);
      if (now + depth * kWarps < past) gemm.load(d, a, tile, now + depth * kWarps, g, c);
    }
  }
}

// The parts of a tile, each of Tile floats in order of its blocks.
template <int Tile>
struct Parts {
  const GemmArguments& a;
  int64_t first_block;
  int count;

  // The tile starts in its first block (second slot of it) and goes on from the start of the later ones (first slot).
  __device__ float* at(int64_t block) const {
    return a.partials + (2 * block + (block == first_block ? 1 : 0)) * static_cast<int64_t>(Tile);
  }
};

// Adds up the block's warps, `shared` [warp][token][row], and when the tile is shared the blocks.
template <int Rows, int Tile>
__device__ __forceinline__ void finish_tile(const GemmArguments& a, int tile, const float* shared,
                                            const Parts<Tile>& parts) {
  const auto write_sum = [&](int at, float sum) { write(a, tile * Rows + at % Rows, a.first_token + at / Rows, sum); };
  for (int at = threadIdx.x; at < Tile; at += 32 * kWarps) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; w++) sum += shared[w * Tile + at];
    if (parts.count == 1) write_sum(at, sum);
    else __stcg(parts.at(blockIdx.x) + at, sum);
  }
  if (parts.count == 1 || !comes_last(a.counters + tile, parts.count)) return;
  for (int at = threadIdx.x; at < Tile; at += 32 * kWarps) {
    float sum = 0;
    for (int i = 0; i < parts.count; i++) sum += __ldcg(parts.at(parts.first_block + i) + at);
    write_sum(at, sum);
  }
}

template <int RowTiles, int TokenTiles>
__global__ __launch_bounds__(32 * kWarps, Gemm<RowTiles, TokenTiles>::kBlocks) void gemm_kernel(
    const __grid_constant__ GemmArguments a) {
  begin_kernel();
  using Tile = Gemm<RowTiles, TokenTiles>;
  extern __shared__ float shared[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
  const int steps = (a.k + kStep - 1) / kStep;
  const int tiles = (a.n + Tile::kRows - 1) / Tile::kRows;
  const int64_t total = static_cast<int64_t>(tiles) * steps;
  const int64_t per = (total + gridDim.x - 1) / gridDim.x;
  const int64_t end = min(total, (blockIdx.x + 1) * per);
  for (int64_t start = blockIdx.x * per; start < end;) {
    const int tile = static_cast<int>(start / steps);
    const int first = static_cast<int>(start % steps);
    const int past = static_cast<int>(min(static_cast<int64_t>(steps), first + end - start));
    float sums[RowTiles][TokenTiles][4] = {};
    sum_steps(a, tile, first, past, warp, g, c, sums);
#pragma unroll
    for (int r = 0; r < RowTiles; r++)
#pragma unroll
      for (int t = 0; t < TokenTiles; t++)
#pragma unroll
        for (int j = 0; j < 4; j++)
          shared[warp * Tile::kTile + (8 * t + 2 * c + j % 2) * Tile::kRows + 16 * r + 8 * (j / 2) + g] = sums[r][t][j];
    __syncthreads();
    const int64_t line = static_cast<int64_t>(tile) * steps;
    const int count = static_cast<int>((line + steps - 1) / per - line / per) + 1;
    finish_tile<Tile::kRows, Tile::kTile>(a, tile, shared, Parts<Tile::kTile>{a, line / per, count});
    __syncthreads();
    start += past - first;
  }
}

template <int RowTiles, int TokenTiles>
kvt_status launch_gemm(const CudaCall& call, const GemmArguments& a, int units) {
  using Tile = Gemm<RowTiles, TokenTiles>;
  constexpr size_t shared = sizeof(float) * kWarps * Tile::kTile;
  const auto kernel = gemm_kernel<RowTiles, TokenTiles>;
  static const cudaError_t raised =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (raised != cudaSuccess) return fail(KVT_FAULT, "gemm: %s", cudaGetErrorString(raised));
  if ((a.n + Tile::kRows - 1) / Tile::kRows > kCounters)
    return fail(KVT_UNSUPPORTED, "gemm: n is %d, expected %d or less", a.n, kCounters * Tile::kRows);
  launch_kernel(call, kernel, {Tile::kBlocks * units, 32 * kWarps, shared}, a);
  return after_launch("gemm");
}

kvt_status gemm(const CudaCall& call) {
  const int64_t m = call.integer(KVT_GEMM_INT_M), n = call.integer(KVT_GEMM_INT_N), k = call.integer(KVT_GEMM_INT_K);
  if (m < 1 || n < 1 || k < 8 || k % 8 != 0)
    return fail(KVT_INVALID, "gemm: m and n must be 1 or more, k a multiple of 8");
  void* counters = nullptr;
  const cudaError_t found = cudaGetSymbolAddress(&counters, tile_counters);
  if (found != cudaSuccess) return fail(KVT_FAULT, "gemm: %s", cudaGetErrorString(found));
  GemmArguments a{call.at<const char>(KVT_GEMM_REF_X),
                  call.at<const char>(KVT_GEMM_REF_WEIGHTS),
                  call.at<void>(KVT_GEMM_REF_OUT),
                  static_cast<float*>(call.scratch),
                  static_cast<uint32_t*>(counters) + static_cast<int64_t>(call.call.stream) * kCounters,
                  static_cast<int>(m),
                  static_cast<int>(n),
                  static_cast<int>(k),
                  call.integer(KVT_GEMM_INT_OUT_TYPE) == 1,
                  0};
  const int64_t asked = call.integer(KVT_GEMM_INT_UNITS);
  const int units = asked > 0 && asked < call.multiprocessors ? static_cast<int>(asked) : call.multiprocessors;
  for (; a.first_token < m; a.first_token += 64) {
    const int64_t left = m - a.first_token;
    const kvt_status status = left <= 8    ? launch_gemm<1, 1>(call, a, units)
                              : left <= 16 ? launch_gemm<1, 2>(call, a, units)
                              : left <= 32 ? launch_gemm<2, 4>(call, a, units)
                                           : launch_gemm<2, 8>(call, a, units);
    if (status != KVT_OK) return status;
  }
  return KVT_OK;
}

KVT_CUDA_KERNEL(KVT_GEMM, gemm);

}  // namespace
