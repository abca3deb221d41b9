// Decode attention over non-uniform codes (calls/nuq-attend.ts). A block takes pages of one row, one after the other: a
// thread a token and half of the pairs for the products with keys, whose codes it looks up; the warps' softmax; then a
// thread eight channels of every few tokens for the values. Queries are turned back to the first token of a page, so that
// keys turn by less than a page. A second launch joins the blocks of a row.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>

#include "../nuq.h"
#include "launch.h"
#include "nuq-room.h"

namespace {

using namespace kvt;

constexpr int kThreads = 128;
constexpr int kMostGroup = 32;
// Blocks a multiprocessor, so that the last ones to end are few of many.
constexpr int kBlocks = 24;
constexpr int kMostSplits = 64;
constexpr unsigned kAllLanes = ~0u;
// Bytes of a line of the cache.
constexpr int kLine = 128;

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

template <int kBits, int kHeads>
__global__ void __launch_bounds__(kThreads) attend_codes(const NuqAttend p) {
  begin_kernel();
  extern __shared__ __align__(16) char room[];
  const Shared<kHeads> s = lay_out<kHeads>(room, p.dim);
  const int64_t row = blockIdx.y;
  const int head = blockIdx.z * kHeads;
  const int heads = min(kHeads, p.group - head);
  const int tokens = static_cast<int>(p.tokens[row]);
  const int pages = (tokens + kTokens - 1) / kTokens;
  const int first = static_cast<int>(static_cast<int64_t>(pages) * blockIdx.x / p.splits);
  const int last = static_cast<int>(static_cast<int64_t>(pages) * (blockIdx.x + 1) / p.splits);
  float sums[kHeads][8] = {};
  float middles[kHeads] = {};
  if (first < last) prepare<kBits, kHeads>(p, s, row, head, heads);
  for (int at = first; at < last; at++) {
    const uint8_t* page = p.pool + p.table[p.offsets[row] + at] * p.stride;
    const int own = min(kTokens, tokens - at * kTokens);
    // The next page comes into the cache meanwhile.
    const int64_t line = static_cast<int64_t>(threadIdx.x) * kLine;
    if (at + 1 < last && line < p.stride) fetch_line(p.pool + p.table[p.offsets[row] + at + 1] * p.stride + line);
    __syncthreads();
    for (int i = threadIdx.x; i < p.dim / 2 * kHeads; i += kThreads) {
      const float2 q = s.queries[i];
      const float2 turn = turn_of(static_cast<double>(p.first + at * kTokens) * s.frequencies[i / kHeads]);
      s.turned[i] = make_float2(q.x * turn.x + q.y * turn.y, q.y * turn.x - q.x * turn.y);
    }
    __syncthreads();
    multiply_keys<kBits, kHeads>(p, s, page);
    __syncthreads();
    weigh<kHeads>(s, own);
    __syncthreads();
    add_values<kBits, kHeads>(p, s, page, own, sums, middles);
  }
  if (first < last) {
    __syncthreads();
    const int units = p.dim / 8;
#pragma unroll
    for (int g = 0; g < kHeads; g++)
#pragma unroll
      for (int c = 0; c < 8; c++)
        atomicAdd(s.out + g * p.dim + threadIdx.x % units * 8 + c, sums[g][c] + middles[g]);
    __syncthreads();
  }
  for (int g = 0; g < heads; g++) {
    float* out = p.partials + ((row * p.group + head + g) * p.splits + blockIdx.x) * (p.dim + 2);
    for (int c = threadIdx.x; c < p.dim; c += kThreads) out[c] = first < last ? s.out[g * p.dim + c] : 0;
    if (threadIdx.x == 0) {
      out[p.dim] = first < last ? s.most[g] : 0;
      out[p.dim + 1] = first < last ? s.sum[g] : 0;
    }
  }
}

// A thread a channel: joins the blocks of a row, for one query head.
__global__ void __launch_bounds__(256) join_splits(const NuqAttend p) {
  begin_kernel();
  const int64_t head = blockIdx.x;
  const int channel = threadIdx.x;
  const float* partials = p.partials + head * p.splits * (p.dim + 2);
  float most = -INFINITY;
  for (int i = 0; i < p.splits; i++)
    if (partials[i * (p.dim + 2) + p.dim + 1] > 0) most = fmaxf(most, partials[i * (p.dim + 2) + p.dim]);
  float o = 0, l = 0;
  for (int i = 0; i < p.splits; i++) {
    const float* one = partials + i * (p.dim + 2);
    if (!(one[p.dim + 1] > 0)) continue;
    const float weight = __expf(one[p.dim] - most);
    o = fmaf(weight, one[channel], o);
    l = fmaf(weight, one[p.dim + 1], l);
  }
  if (p.parts > 0) {
    float* out = static_cast<float*>(p.out) + (head * p.parts + p.part) * (p.dim + 2);
    out[channel] = o;
    if (channel == 0) {
      out[p.dim] = l > 0 ? most : 0;
      out[p.dim + 1] = l;
    }
    return;
  }
  const float value = l > 0 ? o / l : 0;
  if (p.out_type == 0)
    static_cast<float*>(p.out)[head * p.dim + channel] = value;
  else
    static_cast<__nv_bfloat16*>(p.out)[head * p.dim + channel] = __float2bfloat16_rn(value);
}

template <int kBits, int kHeads>
void launch(const CudaCall& call, const NuqAttend& p, unsigned rows) {
  const size_t shared = shared_bytes<kHeads>(p.dim);
  // Where this fails, so does the launch, and is reported.
  if (shared > 48 * 1024)
    cudaFuncSetAttribute(attend_codes<kBits, kHeads>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  const dim3 grid(p.splits, rows, (p.group + kHeads - 1) / kHeads);
  launch_kernel(call, attend_codes<kBits, kHeads>, {grid, kThreads, shared}, p);
  launch_kernel(call, join_splits, {rows * p.group, static_cast<unsigned>(p.dim)}, p);
}

template <int kBits>
void launch(const CudaCall& call, const NuqAttend& p, unsigned rows) {
  if (p.group <= 4)
    launch<kBits, 4>(call, p, rows);
  else
    launch<kBits, 8>(call, p, rows);
}

kvt_status nuq_attend(const CudaCall& call) {
  NuqAttend p{};
  const int64_t rows = call.integer(KVT_NUQ_ATTEND_INT_ROWS);
  const int64_t bits = call.integer(KVT_NUQ_ATTEND_INT_BITS);
  const NuqPage page{call.integer(KVT_NUQ_ATTEND_INT_HEAD_DIM), bits, call.integer(KVT_NUQ_ATTEND_INT_OUTLIERS)};
  p.dim = static_cast<int>(page.dim);
  p.outliers = static_cast<int>(page.outliers);
  p.ranges = static_cast<int>(page.ranges());
  p.key_outliers = static_cast<int>(page.key_outliers());
  p.value_outliers = static_cast<int>(page.value_outliers());
  p.group = static_cast<int>(call.integer(KVT_NUQ_ATTEND_INT_GROUP));
  p.stride = call.integer(KVT_NUQ_ATTEND_INT_PAGE_STRIDE);
  p.first = static_cast<int>(call.integer(KVT_NUQ_ATTEND_INT_FIRST));
  p.out_type = static_cast<int>(call.integer(KVT_NUQ_ATTEND_INT_OUT_TYPE));
  p.parts = static_cast<int>(call.integer(KVT_NUQ_ATTEND_INT_PARTS));
  p.part = static_cast<int>(call.integer(KVT_NUQ_ATTEND_INT_PART));
  const double theta = call.real(KVT_NUQ_ATTEND_REAL_THETA);
  p.step = theta > 0 ? log(theta) / (static_cast<double>(p.dim) / 2) : 0;
  p.q = call.at<const __nv_bfloat16>(KVT_NUQ_ATTEND_REF_Q);
  p.pool = call.at<const uint8_t>(KVT_NUQ_ATTEND_REF_POOL);
  p.books = call.at<const __half>(KVT_NUQ_ATTEND_REF_BOOKS);
  p.table = call.at<const uint32_t>(KVT_NUQ_ATTEND_REF_TABLE);
  p.offsets = call.at<const uint32_t>(KVT_NUQ_ATTEND_REF_OFFSETS);
  p.tokens = call.at<const uint32_t>(KVT_NUQ_ATTEND_REF_TOKENS);
  p.out = call.at<void>(KVT_NUQ_ATTEND_REF_OUT);
  if (rows < 1 || rows > 65535 || p.group < 1 || p.group > kMostGroup || bits < 2 || bits > 4 ||
      (p.dim != 64 && p.dim != 128 && p.dim != 256))
    return fail(KVT_INVALID, "nuq-attend: expected rows 1 to 65535, group 1 to 32, bits 2 to 4 and headDim 64, 128 or 256");
  if (p.outliers < 0 || p.stride < page.bytes() || p.stride % 4 != 0 || reinterpret_cast<uintptr_t>(p.pool) % 4 != 0)
    return fail(KVT_INVALID, "nuq-attend: pageStride, expected a multiple of 4 of at least the page");
  if (p.out_type > 1 || (p.parts > 0 && p.part >= p.parts))
    return fail(KVT_INVALID, "nuq-attend: expected outType 0 or 1 and part below parts");
  const int64_t wanted = (static_cast<int64_t>(kBlocks) * call.multiprocessors + rows - 1) / rows;
  p.splits = static_cast<int>(wanted < kMostSplits ? wanted : kMostSplits);
  p.partials = static_cast<float*>(call.scratch);
  const auto room = [&] { return static_cast<uint64_t>(rows) * p.group * p.splits * (p.dim + 2) * sizeof(float); };
  while (p.splits > 1 && room() > call.scratch_bytes) p.splits /= 2;
  if (room() > call.scratch_bytes) return fail(KVT_INVALID, "nuq-attend: more rows and heads than the scratch has room for");
  const unsigned count = static_cast<unsigned>(rows);
  if (bits == 2)
    launch<2>(call, p, count);
  else if (bits == 3)
    launch<3>(call, p, count);
  else
    launch<4>(call, p, count);
  return after_launch("nuq-attend");
}

KVT_CUDA_KERNEL(KVT_NUQ_ATTEND, nuq_attend);

}  // namespace
