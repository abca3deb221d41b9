// Decode attention over non-uniform codes (calls/nuq-attend.ts). A block takes pages of one row, one after the other: a
// thread a token and half of the pairs for the products with keys, whose codes it looks up; the warps' softmax; then a
// thread eight channels of every few tokens for the values. Queries are turned back to the first token of a page, so that
// keys turn by less than a page. A second launch joins the blocks of a row.
#include <cmath>

#include "../nuq.h"
#include "launch.h"
#include "nuq-page.cuh"

namespace {

using namespace kvt;

constexpr int kMostGroup = 32;
// Blocks a multiprocessor, so that the last ones to end are few of many.
constexpr int kBlocks = 24;
constexpr int kMostSplits = 64;
// Bytes of a line of the cache.
constexpr int kLine = 128;

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
