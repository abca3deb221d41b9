// Products of a group of bf16 queries with bf16 rows on tensor cores, 16 rows a warp: score kernels whose time is that of
// reading the rows. A thread's 16 bytes of a row are the A fragments of two m16n8k16 products; the order of channels in
// them is the same for the queries (B), so no shuffle is needed.
#ifndef KVTIER_CUDA_ROW_PRODUCTS_H
#define KVTIER_CUDA_ROW_PRODUCTS_H

#include "launch.h"
#include "pieces.h"

namespace kvt {

// Order as REDUCE of group-scores.ts.
enum Reduce : int { kPerQuery, kMax, kMean, kSum };

constexpr int kProductWarps = 8;
constexpr int kChunk = 32;  // channels of a row in one load of a quad of threads
constexpr int kTileRows = 16;

struct RowProducts {
  const uint16_t* queries;  // [rows, group, dim]
  Pieces vectors;
  float* scores;
  int64_t count, score_stride;
  int group, dim, reduce;
  // Channels of a vector: dim, or 2 dim where it is a pair of bounds (maxima, then minima).
  int width;
  float scale;
};

__device__ __forceinline__ uint4 load_row(const __nv_bfloat16* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}

__device__ __forceinline__ void multiply(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                         uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// A word whose first channel is `first`; of one that the vector ends amid only what belongs to it is read, because the buffer
// may end there as well.
__device__ __forceinline__ uint32_t narrow_word(const uint32_t* words, int i, int first, int width) {
  if (first >= width) return 0;
  return first + 1 < width ? __ldg(words + i) : __ldg(reinterpret_cast<const uint16_t*>(words + i));
}

// Eight channels of a vector of any number of them, from whole words: a vector of odd width may begin amid one. What lies
// beyond the width is zero. Neighbours read the rest of a line, so it stays in the first-level cache.
__device__ __forceinline__ uint4 load_narrow(const uint16_t* vector, int channel, int width) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(vector + channel);
  const uint32_t* const words = reinterpret_cast<const uint32_t*>(at & ~uintptr_t{3});
  const int ahead = static_cast<int>(at / 2 % 2);  // channels of the first word that belong to others
  uint32_t word[5], pair[4];
#pragma unroll
  for (int i = 0; i < 5; i++) word[i] = i < 4 || ahead > 0 ? narrow_word(words, i, channel + 2 * i - ahead, width) : 0;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    pair[i] = __funnelshift_r(word[i], word[i + 1], 16 * ahead);
    const int left = width - channel - 2 * i;
    if (left < 2) pair[i] = left < 1 ? 0 : pair[i] & 0xffffu;
  }
  return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

// Eight channels of a query; of a pair of bounds the positive parts meet the maxima, the others the minima.
template <bool kNarrow>
__device__ inline uint4 query_part(const RowProducts& p, int64_t row, int query, int channel) {
  if (query >= p.group || channel >= p.width) return make_uint4(0, 0, 0, 0);
  const bool lower = channel >= p.dim;
  const int64_t at = (row * p.group + query) * p.dim + (lower ? channel - p.dim : channel);
  if constexpr (kNarrow) return load_narrow(p.queries + at - channel, channel, p.width);
  uint4 part = *reinterpret_cast<const uint4*>(p.queries + at);
  if (p.width == p.dim) return part;
  for (uint32_t* pair : {&part.x, &part.y, &part.z, &part.w}) {
    const uint32_t negative = (*pair & 0x80008000u) >> 15;  // 1 in the half of a negative number
    const uint32_t mask = negative * 0xffffu;
    *pair &= lower ? mask : ~mask;
  }
  return part;
}

__device__ __forceinline__ float joined(int reduce, float a, float b) { return reduce == kMax ? fmaxf(a, b) : a + b; }

// Scores of one vector (`low`: the first of the thread's two): of each query, or reduced over the quad's queries.
template <int kTiles>
__device__ __forceinline__ void write_scores(const RowProducts& p, const float (&c)[kTiles][4], int low, int64_t row,
                                             int64_t i) {
  const int quad = threadIdx.x & 3;
  if (p.reduce == kPerQuery) {
    if (i >= p.count) return;
    float* const to = p.scores + (row * p.group + 2 * quad) * p.score_stride + i;
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
      for (int side = 0; side < 2; side++)
        if (tile * 8 + 2 * quad + side < p.group) to[(tile * 8 + side) * p.score_stride] = p.scale * c[tile][2 * low + side];
    return;
  }
  float value = p.reduce == kMax ? -INFINITY : 0;
#pragma unroll
  for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
    for (int side = 0; side < 2; side++)
      if (tile * 8 + 2 * quad + side < p.group) value = joined(p.reduce, value, p.scale * c[tile][2 * low + side]);
  value = joined(p.reduce, value, __shfl_xor_sync(~0u, value, 1));
  value = joined(p.reduce, value, __shfl_xor_sync(~0u, value, 2));
  if (p.reduce == kMean) value /= p.group;
  if (quad == 0 && i < p.count) p.scores[row * p.score_stride + i] = value;
}

// What a thread holds of a tile: its part of kStep chunks of two vectors.
template <int kStep, bool kNarrow>
struct RowParts {
  uint4 low[kStep], high[kStep];

  __device__ __forceinline__ uint4 part(const __nv_bfloat16* row, int channel, int width) {
    if constexpr (kNarrow) return load_narrow(reinterpret_cast<const uint16_t*>(row), channel, width);
    return load_row(row + channel);
  }

  __device__ __forceinline__ void load(const RowProducts& p, const __nv_bfloat16* low_row,
                                       const __nv_bfloat16* high_row, int chunk) {
#pragma unroll
    for (int s = 0; s < kStep; s++) {
      const int channel = (chunk + s) * kChunk + (threadIdx.x & 3) * 8;
      const bool inside = channel < p.width;
      low[s] = inside ? part(low_row, channel, p.width) : make_uint4(0, 0, 0, 0);
      high[s] = inside ? part(high_row, channel, p.width) : make_uint4(0, 0, 0, 0);
    }
  }
};

// Blocks of a multiprocessor: short vectors need more warps for as many bytes in flight.
template <int kChunks, int kTiles>
constexpr int blocks_of() {
  if (kChunks == 0 || kChunks > 4) return 2;
  return kTiles == 1 ? 4 : kTiles == 2 ? 3 : 2;
}

// A block takes an equal share of all tiles of all rows. kChunks: chunks of a vector, all in flight at once; 0 = any
// number, four at a time. kTiles: groups of 8 queries. kNarrow: vectors of any width, which begin at any channel.
template <int kChunks, int kTiles, bool kNarrow>
__global__ void __launch_bounds__(32 * kProductWarps, blocks_of<kChunks, kTiles>())
    multiply_rows(const RowProducts p, int64_t all_tiles) {
  begin_kernel();
  extern __shared__ uint4 fragments[];  // [kTiles, chunks, 32]
  constexpr int kStep = kChunks > 0 ? (kChunks < 8 ? kChunks : 8) : 4;
  const int chunks = kChunks > 0 ? kChunks : (p.width + kChunk - 1) / kChunk;
  const int lane = threadIdx.x & 31;
  const int64_t row_tiles = (p.count + kTileRows - 1) / kTileRows;
  const int64_t end = all_tiles * (blockIdx.x + 1) / gridDim.x;
  for (int64_t begin = all_tiles * blockIdx.x / gridDim.x; begin < end;) {
    const int64_t row = begin / row_tiles;
    const int64_t row_end = end < (row + 1) * row_tiles ? end : (row + 1) * row_tiles;
    int64_t tile = begin + threadIdx.x / 32;
    RowParts<kStep, kNarrow> parts;
    const __nv_bfloat16 *low = nullptr, *high = nullptr;
    const auto start = [&] {
      const int64_t first = (tile - row * row_tiles) * kTileRows + lane / 4;
      const int64_t last = p.count - 1;
      low = p.vectors.at(row, first < last ? first : last, p.width);
      high = p.vectors.at(row, first + 8 < last ? first + 8 : last, p.width);
      parts.load(p, low, high, 0);
    };
    if (tile < row_end) start();
    // The queries come in while the first rows are on their way.
    for (int at = threadIdx.x; at < kTiles * chunks * 32; at += blockDim.x) {
      const int chunk = at / 32 % chunks;
      fragments[at] = query_part<kNarrow>(p, row, at / 32 / chunks * 8 + lane / 4, chunk * kChunk + lane % 4 * 8);
    }
    __syncthreads();
    while (tile < row_end) {
      float c[kTiles][4] = {};
      for (int from = 0; from < chunks; from += kStep) {
        if (from > 0) parts.load(p, low, high, from);
#pragma unroll
        for (int s = 0; s < kStep; s++) {
          if (kChunks == 0 && from + s >= chunks) break;
#pragma unroll
          for (int t = 0; t < kTiles; t++) {
            const uint4 q = fragments[(t * chunks + from + s) * 32 + lane];
            multiply(c[t], parts.low[s].x, parts.high[s].x, parts.low[s].y, parts.high[s].y, q.x, q.y);
            multiply(c[t], parts.low[s].z, parts.high[s].z, parts.low[s].w, parts.high[s].w, q.z, q.w);
          }
        }
      }
      const int64_t first = (tile - row * row_tiles) * kTileRows + lane / 4;
      tile += kProductWarps;
      if (tile < row_end) start();
      write_scores<kTiles>(p, c, 0, row, first);
      write_scores<kTiles>(p, c, 1, row, first + 8);
    }
    __syncthreads();
    begin = row_end;
  }
}

template <int kChunks, int kTiles, bool kNarrow = false>
void launch_row_products(const CudaCall& call, const RowProducts& p, int64_t rows, int chunks) {
  const size_t shared = sizeof(uint4) * kTiles * chunks * 32;
  int resident = 1;
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, multiply_rows<kChunks, kTiles, kNarrow>, 32 * kProductWarps, shared);
  const int64_t row_tiles = (p.count + kTileRows - 1) / kTileRows;
  const int64_t tiles = rows * row_tiles;
  // Whole blocks a row: a block that goes on to a second row takes as long again, which only long rows hide.
  const int64_t wanted = rows * ((row_tiles + kProductWarps - 1) / kProductWarps);
  const int64_t most = static_cast<int64_t>(call.multiprocessors) * (resident > 0 ? resident : 1);
  const unsigned grid = static_cast<unsigned>(wanted < most ? wanted : most);
  launch_kernel(call, multiply_rows<kChunks, kTiles, kNarrow>, {grid, 32 * kProductWarps, shared}, p, tiles);
}

template <int kTiles>
void launch_row_products(const CudaCall& call, const RowProducts& p, int64_t rows) {
  const int chunks = (p.width + kChunk - 1) / kChunk;
  if (p.width % 8 != 0) {
    // Heads of 128 keep 25 or 38 columns (sim/policy/policies/infinigen.ts).
    if (chunks <= 2) return launch_row_products<2, kTiles, true>(call, p, rows, 2);
    return launch_row_products<0, kTiles, true>(call, p, rows, chunks);
  }
  if (chunks == 2) return launch_row_products<2, kTiles>(call, p, rows, chunks);
  if (chunks == 4) return launch_row_products<4, kTiles>(call, p, rows, chunks);
  if (chunks == 8) return launch_row_products<8, kTiles>(call, p, rows, chunks);
  launch_row_products<0, kTiles>(call, p, rows, chunks);
}

inline kvt_status score_rows(const CudaCall& call, const char* kernel, const RowProducts& p, int64_t rows) {
  if (rows < 1 || p.group < 1 || p.group > 32 || p.count < 1)
    return fail(KVT_INVALID, "%s: expected rows 1 or more, group 1 to 32 and 1 vector or more", kernel);
  if (reinterpret_cast<uintptr_t>(p.queries) % 16 != 0 || reinterpret_cast<uintptr_t>(p.vectors.base) % 16 != 0)
    return fail(KVT_INVALID, "%s: expected queries and vectors aligned to 16 bytes", kernel);
  if (p.dim < 1 || p.dim > 1024 || (p.dim % 8 != 0 && p.width != p.dim) || p.vectors.vectors < 1 ||
      p.vectors.bytes % 16 != 0)
    return fail(KVT_INVALID, "%s: expected headDim up to 1024, of bounds a multiple of 8, and pieces a multiple of 16 bytes",
                kernel);
  if (p.group <= 8)
    launch_row_products<1>(call, p, rows);
  else if (p.group <= 16)
    launch_row_products<2>(call, p, rows);
  else
    launch_row_products<4>(call, p, rows);
  return after_launch(kernel);
}

}  // namespace kvt
#endif
