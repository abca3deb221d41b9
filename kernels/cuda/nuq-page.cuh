// What a block of nuq-attend.cu does with a page: products with keys, their weights, sums of values. Queries and tables of
// codes lie in shared memory (nuq-room.h).
#ifndef KVTIER_CUDA_NUQ_PAGE_CUH
#define KVTIER_CUDA_NUQ_PAGE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>

#include "nuq-room.h"

namespace kvt {

constexpr int kThreads = 128;
constexpr unsigned kAllLanes = ~0u;

struct NuqAttend {
  const __nv_bfloat16* q;
  const uint8_t* pool;
  const __half* books;
  const uint32_t *table, *offsets, *tokens;
  void* out;
  float* partials;  // [rows, group, splits, dim + 2]
  int64_t stride;
  int group, dim, outliers, splits, first, out_type, parts, part;
  int ranges, key_outliers, value_outliers;
  double step;  // logarithm of the ratio of two pairs' frequencies; 0 = no rotary embedding
};

template <int kBits, int kHeads>
__device__ void prepare(const NuqAttend& p, const Shared<kHeads>& s, int64_t row, int head, int heads) {
  constexpr int kLevels = 1 << kBits;
  const int pairs = p.dim / 2;
  const __half* book = p.books + row * (2 * p.dim + 2 * kLevels);
  for (int i = threadIdx.x; i < 2 * kLevels; i += kThreads)
    (i < kLevels ? s.key_levels : s.value_levels - kLevels)[i] = __half2float(book[2 * p.dim + i]);
  for (int i = threadIdx.x; i < pairs; i += kThreads) {
    s.ranges[i] = make_float4(__half2float(book[i]), __half2float(book[p.dim + i]), __half2float(book[pairs + i]),
                              __half2float(book[p.dim + pairs + i]));
    s.frequencies[i] = p.step > 0 ? exp(-p.step * i) : 0;
  }
  const float scale = rsqrtf(static_cast<float>(p.dim));
  for (int i = threadIdx.x; i < pairs * kHeads; i += kThreads) {
    const int pair = i / kHeads, g = i % kHeads;
    const __nv_bfloat16* q = p.q + (row * p.group + head + g) * p.dim;
    s.queries[i] = g < heads ? make_float2(scale * __bfloat162float(q[pair]), scale * __bfloat162float(q[pairs + pair]))
                             : make_float2(0, 0);
  }
  for (int i = threadIdx.x; i < kHeads * p.dim; i += kThreads) s.out[i] = 0;
  for (int i = threadIdx.x; i < kHeads; i += kThreads) {
    s.most[i] = -INFINITY;
    s.sum[i] = 0;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < pairs * kTokens; i += kThreads) {
    const float2 turn = turn_of((i % kTokens) * s.frequencies[i / kTokens]);
    s.turns[i] = __floats2half2_rn(turn.x, turn.y);
  }
}

// What a key's channels a and b of a pair, as they turn within the page, add to the scores of the queries.
template <int kHeads>
__device__ __forceinline__ void add_pair(const Shared<kHeads>& s, int pair, int token, float a, float b, float (&sums)[kHeads]) {
  const float2 turn = __half22float2(s.turns[pair * kTokens + token]);
  const float first = a * turn.x - b * turn.y;
  const float second = a * turn.y + b * turn.x;
  const float4* queries = reinterpret_cast<const float4*>(s.turned + pair * kHeads);
#pragma unroll
  for (int g = 0; g < kHeads; g += 2) {
    const float4 q = queries[g / 2];
    sums[g] = fmaf(q.x, first, fmaf(q.y, second, sums[g]));
    sums[g + 1] = fmaf(q.z, first, fmaf(q.w, second, sums[g + 1]));
  }
}

__device__ __forceinline__ float rest_of(uint32_t entry) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(entry >> 16)));
}

// Products of the page's keys with the queries: a thread a token and every second unit of pairs, and outlier.
template <int kBits, int kHeads>
__device__ void multiply_keys(const NuqAttend& p, const Shared<kHeads>& s, const uint8_t* page) {
  constexpr int kHalves = kThreads / kTokens;
  const int token = threadIdx.x % kTokens, half = threadIdx.x / kTokens;
  const int units = p.dim / 64;
  const uint32_t* words = reinterpret_cast<const uint32_t*>(page) + token;
  float sums[kHeads] = {};
  for (int unit = half; unit < units; unit += kHalves) {
    uint32_t low[kBits], high[kBits];
#pragma unroll
    for (int w = 0; w < kBits; w++) {
      low[w] = words[(unit * kBits + w) * kTokens];
      high[w] = words[((unit + units) * kBits + w) * kTokens];
    }
#pragma unroll
    for (int j = 0; j < 32; j++) {
      const int pair = unit * 32 + j;
      const float4 range = s.ranges[pair];
      const float a = fmaf(range.y, s.key_levels[code_of<kBits>(low, j)], range.x);
      const float b = fmaf(range.w, s.key_levels[code_of<kBits>(high, j)], range.z);
      add_pair<kHeads>(s, pair, token, a, b, sums);
    }
  }
  const uint32_t* outliers = reinterpret_cast<const uint32_t*>(page + p.key_outliers);
  const int last = (token + 1) * p.outliers / kTokens;
  for (int i = token * p.outliers / kTokens + half; i < last; i += kHalves) {
    const uint32_t entry = outliers[i];
    const int channel = static_cast<int>(entry & (p.dim - 1));
    const bool is_first = channel < p.dim / 2;
    const float rest = rest_of(entry);
    add_pair<kHeads>(s, channel & (p.dim / 2 - 1), token, is_first ? rest : 0, is_first ? 0 : rest, sums);
  }
#pragma unroll
  for (int g = 0; g < kHeads; g++) s.scores[(half * kHeads + g) * kTokens + token] = sums[g];
}

// Scores become weights relative to the largest so far; what was summed before is to be multiplied by s.kept.
template <int kHeads>
__device__ void weigh(const Shared<kHeads>& s, int tokens) {
  const int lane = threadIdx.x % 32;
  for (int g = threadIdx.x / 32; g < kHeads; g += kThreads / 32) {
    float* scores = s.scores + g * kTokens;
    const float* others = scores + kHeads * kTokens;
    const float a = lane < tokens ? scores[lane] + others[lane] : -INFINITY;
    const float b = lane + 32 < tokens ? scores[lane + 32] + others[lane + 32] : -INFINITY;
    const float before = s.most[g];
    float most = fmaxf(before, fmaxf(a, b));
#pragma unroll
    for (int by = 16; by > 0; by /= 2) most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, by));
    const float first = __expf(a - most), second = __expf(b - most);
    float sum = first + second;
#pragma unroll
    for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(kAllLanes, sum, by);
    scores[lane] = first;
    scores[lane + 32] = second;
    __syncwarp();
    if (lane != 0) continue;
    const float kept = __expf(before - most);
    s.most[g] = most;
    s.sum[g] = s.sum[g] * kept + sum;
    s.kept[g] = kept;
  }
}

template <int kBits, int kHeads>
__device__ void add_values(const NuqAttend& p, const Shared<kHeads>& s, const uint8_t* page, int tokens, float (&sums)[kHeads][8],
                           float (&middles)[kHeads]) {
  constexpr uint32_t kMask = (1u << kBits) - 1;
  const int units = p.dim / 8;
  const int unit = threadIdx.x % units;
  const uint8_t* values = page + kTokens * p.dim * kBits / 8;
  const __half2* ranges = reinterpret_cast<const __half2*>(page + p.ranges);
  const uint32_t* outliers = reinterpret_cast<const uint32_t*>(page + p.value_outliers);
#pragma unroll
  for (int g = 0; g < kHeads; g++) {
    const float kept = s.kept[g];
    middles[g] *= kept;
#pragma unroll
    for (int c = 0; c < 8; c++) sums[g][c] *= kept;
  }
#pragma unroll 4
  for (int token = threadIdx.x / units; token < tokens; token += kThreads / units) {
    const uint32_t codes = unit_of<kBits>(values + token * (p.dim * kBits / 8), unit);
    const float2 range = __half22float2(ranges[token]);
    float levels[8];
#pragma unroll
    for (int c = 0; c < 8; c++) levels[c] = range.y * s.value_levels[codes >> (kBits * c) & kMask];
    const int last = (token + 1) * p.outliers / kTokens;
    for (int i = token * p.outliers / kTokens; i < last; i++) {
      const uint32_t entry = outliers[i];
      const int channel = static_cast<int>(entry & (p.dim - 1)) - 8 * unit;
      const float rest = rest_of(entry);
#pragma unroll
      for (int c = 0; c < 8; c++) levels[c] += channel == c ? rest : 0;
    }
#pragma unroll
    for (int g = 0; g < kHeads; g++) {
      const float weight = s.scores[g * kTokens + token];
      middles[g] = fmaf(weight, range.x, middles[g]);
#pragma unroll
      for (int c = 0; c < 8; c++) sums[g][c] = fmaf(weight, levels[c], sums[g][c]);
    }
  }
}

}  // namespace kvt

#endif
