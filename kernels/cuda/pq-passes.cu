// Estimated products in the passes of PyTorch (calls/pq-passes.ts): a launch each, with halves in memory between them.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "launch.h"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
// Codes that a thread asks for at once.
constexpr int kCodes = 8;
// Halves of one load.
constexpr int kWide = 8;
// Queries of one turn.
constexpr int kTogether = 4;
constexpr unsigned kSoftmaxThreads = 1024;
constexpr int kMostGroup = 32;

struct PqPasses {
  const __nv_bfloat16* queries;
  const __half* books;
  const int64_t* codes;
  __half *table, *gathered, *sums, *scaled;
  float* scores;
  int64_t vectors, count, stride, code_stride, score_stride;
  int group, dim, subspaces, centroids;
  float scale;
};

union Halves {
  uint4 word;
  __half2 pairs[kWide / 2];
};

__device__ __forceinline__ void add(float (&sums)[kWide], const __half* from) {
  Halves in;
  in.word = *reinterpret_cast<const uint4*>(from);
#pragma unroll
  for (int i = 0; i < kWide / 2; i++) {
    const float2 pair = __half22float2(in.pairs[i]);
    sums[2 * i] += pair.x;
    sums[2 * i + 1] += pair.y;
  }
}

__device__ __forceinline__ void put(__half* to, const float (&values)[kWide]) {
  Halves out;
#pragma unroll
  for (int i = 0; i < kWide / 2; i++) out.pairs[i] = __floats2half2_rn(values[2 * i], values[2 * i + 1]);
  *reinterpret_cast<uint4*>(to) = out.word;
}

// Products of the group's queries with one centroid a thread, kTogether queries at a time; `words` = centroids are whole
// words of kWide.
__global__ void __launch_bounds__(kThreads) multiply(const PqPasses p, bool words) {
  begin_kernel();
  extern __shared__ float query[];  // [group, dim]
  const int64_t row = blockIdx.y;
  const int channels = p.dim / p.subspaces;
  const int entries = p.subspaces * p.centroids;
  for (int i = threadIdx.x; i < p.group * p.dim; i += kThreads)
    query[i] = __bfloat162float(p.queries[row * p.group * p.dim + i]);
  __syncthreads();
  const int entry = blockIdx.x * kThreads + threadIdx.x;
  if (entry >= entries) return;
  const __half* centroid = p.books + (row * entries + entry) * channels;
  const float* part = query + entry / p.centroids * channels;
  for (int from = 0; from < p.group; from += kTogether) {
    float sums[kTogether] = {};
#pragma unroll 4
    for (int c = 0; c < channels; c += kWide) {
      float numbers[kWide] = {};
      if (words)
        add(numbers, centroid + c);
      else
        for (int i = 0; i < kWide; i++) numbers[i] = c + i < channels ? __half2float(centroid[c + i]) : 0;
#pragma unroll
      for (int g = 0; g < kTogether; g++)
#pragma unroll
        for (int i = 0; i < kWide; i++)
          if (from + g < p.group && c + i < channels) sums[g] = fmaf(part[(from + g) * p.dim + c + i], numbers[i], sums[g]);
    }
#pragma unroll
    for (int g = 0; g < kTogether; g++)
      if (from + g < p.group) p.table[(row * p.group + from + g) * entries + entry] = __float2half_rn(sums[g]);
  }
}

// gathered[i] = products[codes[i]]: blockIdx.y counts (row, query head, subspace).
__global__ void __launch_bounds__(kThreads) take(const PqPasses p) {
  begin_kernel();
  const int64_t line = blockIdx.y;
  const __half* products = p.table + line * p.centroids;
  const int64_t* codes = p.codes + line * p.code_stride;
  __half* out = p.gathered + line * p.stride;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads * kCodes + threadIdx.x;
  int64_t own[kCodes];
#pragma unroll
  for (int k = 0; k < kCodes; k++)
    if (first + k * kThreads < p.count) own[k] = codes[first + k * kThreads];
#pragma unroll
  for (int k = 0; k < kCodes; k++)
    if (first + k * kThreads < p.count) out[first + k * kThreads] = products[own[k]];
}

// out = factor * sum of `terms` lines, for each of gridDim.y vectors; strides are whole words of kWide.
__global__ void __launch_bounds__(kThreads) fold(const __half* in, __half* out, int64_t stride, int terms, float factor) {
  begin_kernel();
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWide;
  if (at >= stride) return;
  float sums[kWide] = {};
  for (int t = 0; t < terms; t++) add(sums, in + (blockIdx.y * static_cast<int64_t>(terms) + t) * stride + at);
#pragma unroll
  for (int i = 0; i < kWide; i++) sums[i] *= factor;
  put(out + blockIdx.y * stride + at, sums);
}

// A block a vector, as in PyTorch, of as many warps as it has work for: a pass for the maximum, one for the sum, one that writes; later ones read from L2.
__global__ void __launch_bounds__(kSoftmaxThreads) softmax(const __half* in, __half* out, int64_t count, int64_t stride) {
  begin_kernel();
  __shared__ float warps[32];
  const int lane = threadIdx.x % 32;
  const bool counts = lane < blockDim.x / 32;
  const __half* own = in + blockIdx.x * stride;
  const int64_t first = threadIdx.x * kWide;
  const int64_t step = blockDim.x * kWide;
  float most = -INFINITY;
  for (int64_t at = first; at < count; at += step) {
    float values[kWide] = {};
    add(values, own + at);
#pragma unroll
    for (int i = 0; i < kWide; i++) most = at + i < count ? fmaxf(most, values[i]) : most;
  }
#pragma unroll
  for (int by = 16; by > 0; by /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, by));
  if (lane == 0) warps[threadIdx.x / 32] = most;
  __syncthreads();
  most = counts ? warps[lane] : -INFINITY;
#pragma unroll
  for (int by = 16; by > 0; by /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, by));
  __syncthreads();
  float sum = 0;
  for (int64_t at = first; at < count; at += step) {
    float values[kWide] = {};
    add(values, own + at);
#pragma unroll
    for (int i = 0; i < kWide; i++) sum += at + i < count ? __expf(values[i] - most) : 0;
  }
#pragma unroll
  for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(~0u, sum, by);
  if (lane == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = counts ? warps[lane] : 0;
#pragma unroll
  for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(~0u, sum, by);
  const float factor = 1 / sum;
  for (int64_t at = first; at < count; at += step) {
    float values[kWide] = {};
    add(values, own + at);
#pragma unroll
    for (int i = 0; i < kWide; i++) values[i] = __expf(values[i] - most) * factor;
    put(out + blockIdx.x * stride + at, values);
  }
}

// Sum over the group, in the 32 bits that selection takes.
__global__ void __launch_bounds__(kThreads) join(const __half* shares, float* scores, int group, int64_t count, int64_t stride, int64_t score_stride) {
  begin_kernel();
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWide;
  if (at >= count) return;
  float sums[kWide] = {};
  for (int g = 0; g < group; g++) add(sums, shares + (blockIdx.y * static_cast<int64_t>(group) + g) * stride + at);
  float* out = scores + blockIdx.y * score_stride + at;
#pragma unroll
  for (int i = 0; i < kWide; i++)
    if (at + i < count) out[i] = sums[i];
}

unsigned blocks_for(int64_t count, int64_t each) { return static_cast<unsigned>((count + each - 1) / each); }

void launch_passes(const CudaCall& call, const PqPasses& p) {
  const unsigned rows = static_cast<unsigned>(p.vectors / p.group);
  const unsigned vectors = static_cast<unsigned>(p.vectors);
  const unsigned words = blocks_for(p.stride, kThreads * kWide);
  const size_t query_bytes = sizeof(float) * p.group * p.dim;
  const bool whole = p.dim / p.subspaces % kWide == 0 && reinterpret_cast<uintptr_t>(p.books) % 16 == 0;
  launch_kernel(call, multiply, {dim3(blocks_for(p.subspaces * p.centroids, kThreads), rows), kThreads, query_bytes}, p, whole);
  launch_kernel(call, take, {dim3(blocks_for(p.count, kThreads * kCodes), vectors * p.subspaces), kThreads}, p);
  launch_kernel(call, fold, {dim3(words, vectors), kThreads}, p.gathered, p.sums, p.stride, p.subspaces, 1.0f);
  launch_kernel(call, fold, {dim3(words, vectors), kThreads}, p.sums, p.scaled, p.stride, 1, p.scale);
  // What was gathered is no longer needed.
  const unsigned warps = blocks_for(p.count, 32 * kWide);
  launch_kernel(call, softmax, {vectors, warps < 32 ? 32 * warps : kSoftmaxThreads}, p.scaled, p.gathered, p.count, p.stride);
  launch_kernel(call, join, {dim3(words, rows), kThreads}, p.gathered, p.scores, p.group, p.count, p.stride, p.score_stride);
}

kvt_status pq_passes(const CudaCall& call) {
  PqPasses p{};
  const int64_t rows = call.integer(KVT_PQ_PASSES_INT_ROWS);
  p.group = static_cast<int>(call.integer(KVT_PQ_PASSES_INT_GROUP));
  p.count = call.integer(KVT_PQ_PASSES_INT_COUNT);
  p.dim = static_cast<int>(call.integer(KVT_PQ_PASSES_INT_HEAD_DIM));
  p.subspaces = static_cast<int>(call.integer(KVT_PQ_PASSES_INT_SUBSPACES));
  p.centroids = static_cast<int>(call.integer(KVT_PQ_PASSES_INT_CENTROIDS));
  p.score_stride = call.integer(KVT_PQ_PASSES_INT_SCORE_STRIDE);
  p.scale = static_cast<float>(call.real(KVT_PQ_PASSES_REAL_SCALE));
  if (rows < 1 || p.group < 1 || p.group > kMostGroup || p.count < 1 || p.centroids < 1 || p.dim > 256)
    return fail(KVT_INVALID, "pq-passes: expected group 1 to 32, rows, count and centroids 1 or more and headDim to 256");
  if (p.subspaces < 1 || p.dim % p.subspaces != 0) return fail(KVT_INVALID, "pq-passes: subspaces must divide headDim");
  p.vectors = rows * p.group;
  if (p.vectors * p.subspaces > 65535) return fail(KVT_INVALID, "pq-passes: rows x group x subspaces, expected 65535 or fewer");
  p.queries = call.at<const __nv_bfloat16>(KVT_PQ_PASSES_REF_QUERIES);
  p.books = call.at<const __half>(KVT_PQ_PASSES_REF_BOOKS);
  p.codes = call.at<const int64_t>(KVT_PQ_PASSES_REF_CODES);
  p.scores = call.at<float>(KVT_PQ_PASSES_REF_SCORES);
  p.code_stride = call.integer(KVT_PQ_PASSES_INT_CODE_STRIDE);
  p.stride = (p.count + kWide - 1) / kWide * kWide;
  // Lines that are read whole words at a time come first.
  p.gathered = call.at<__half>(KVT_PQ_PASSES_REF_PASSES);
  p.sums = p.gathered + p.vectors * p.subspaces * p.stride;
  p.scaled = p.sums + p.vectors * p.stride;
  p.table = p.scaled + p.vectors * p.stride;
  if (reinterpret_cast<uintptr_t>(p.codes) % 8 != 0 || reinterpret_cast<uintptr_t>(p.gathered) % 16 != 0)
    return fail(KVT_INVALID, "pq-passes: expected codes aligned to 8 bytes and passes to 16");
  launch_passes(call, p);
  return after_launch("pq-passes");
}

KVT_CUDA_KERNEL(KVT_PQ_PASSES, pq_passes);

}  // namespace
