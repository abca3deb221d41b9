// Softmax of each query's scores, reduced over the group (calls/softmax-mass.ts): one launch finds maximum and sum of
// slices of every query, a second joins them and writes. The scores, just written by another kernel, come from L2.
#include "launch.h"

namespace {

using namespace kvt;

enum Reduce : int { kMax = 1, kMean = 2, kSum = 3 };

constexpr int kThreads = 256;
constexpr int kPerThread = 4;
constexpr int kSlice = kThreads * kPerThread;
constexpr int kMostGroup = 32;
constexpr unsigned kAllLanes = ~0u;

struct SoftmaxMass {
  const float* scores;
  float* mass;
  float2* partials;  // maximum and sum: [rows, group, slices]
  int64_t score_stride, mass_stride;
  int group, count, slices, reduce;
};

// Maximum and sum of exponentials relative to it.
__device__ __forceinline__ float2 joined(float2 a, float2 b) {
  const float most = fmaxf(a.x, b.x);
  if (most == -INFINITY) return make_float2(most, 0);
  return make_float2(most, a.y * __expf(a.x - most) + b.y * __expf(b.x - most));
}

__device__ __forceinline__ float2 joined_in_warp(float2 mine) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2)
    mine = joined(mine, make_float2(__shfl_xor_sync(kAllLanes, mine.x, by), __shfl_xor_sync(kAllLanes, mine.y, by)));
  return mine;
}

__global__ void __launch_bounds__(kThreads) sum_slices(const SoftmaxMass p) {
  begin_kernel();
  __shared__ float2 warps[kThreads / 32];
  const int64_t query = blockIdx.y;
  const float* scores = p.scores + query * p.score_stride;
  const int first = blockIdx.x * kSlice + threadIdx.x;
  float own[kPerThread];
  float most = -INFINITY;
#pragma unroll
  for (int i = 0; i < kPerThread; i++)
    own[i] = first + i * kThreads < p.count ? scores[first + i * kThreads] : -INFINITY;
#pragma unroll
  for (int i = 0; i < kPerThread; i++) most = fmaxf(most, own[i]);
  float sum = 0;
  if (most > -INFINITY)
#pragma unroll
    for (int i = 0; i < kPerThread; i++) sum += __expf(own[i] - most);
  float2 all = joined_in_warp(make_float2(most, sum));
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = all;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kThreads / 32; w++) all = joined(all, warps[w]);
  p.partials[query * p.slices + blockIdx.x] = all;
}

// kPer: scores of a head that a thread takes, kHeads: heads whose scores are on their way at once. With few rows the first of
// them come while the totals are joined: nothing else hides what many heads take to arrive.
template <int kPer, int kHeads>
__global__ void __launch_bounds__(kThreads) write_mass(const SoftmaxMass p) {
  begin_kernel();
  __shared__ float2 totals[kMostGroup];  // maximum, inverse sum
  const int64_t row = blockIdx.y;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x & 31;
  const float* scores = p.scores + row * p.group * p.score_stride;
  const int first = blockIdx.x * kThreads * kPer + threadIdx.x;
  float own[kHeads][kPer];
  const auto load = [&](int from) {
#pragma unroll
    for (int h = 0; h < kHeads; h++)
#pragma unroll
      for (int i = 0; i < kPer; i++) {
        const int at = first + i * kThreads;
        if (from + h < p.group && at < p.count) own[h][i] = scores[(from + h) * p.score_stride + at];
      }
  };
  if (kPer == 1) load(0);
  constexpr int kOwn = kMostGroup * 32 / kThreads;  // heads of a warp
  float2 all[kOwn];
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    const int g = warp + i * (kThreads / 32);
    all[i] = g < p.group && lane < p.slices ? p.partials[(row * p.group + g) * p.slices + lane] : make_float2(-INFINITY, 0);
  }
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    const int g = warp + i * (kThreads / 32);
    if (g >= p.group) break;
    for (int slice = lane + 32; slice < p.slices; slice += 32)
      all[i] = joined(all[i], p.partials[(row * p.group + g) * p.slices + slice]);
    all[i] = joined_in_warp(all[i]);
    if (lane == 0) totals[g] = make_float2(all[i].x, 1 / all[i].y);
  }
  __syncthreads();
  const float factor = p.reduce == kMean ? 1.0f / p.group : 1.0f;
  float out[kPer] = {};
  for (int from = 0; from < p.group; from += kHeads) {
    if (kPer > 1 || from > 0) load(from);
#pragma unroll
    for (int h = 0; h < kHeads; h++) {
      if (from + h >= p.group) break;
      const float2 total = totals[from + h];
#pragma unroll
      for (int i = 0; i < kPer; i++) {
        const float share = __expf(own[h][i] - total.x) * total.y;
        out[i] = p.reduce == kMax ? fmaxf(out[i], share) : out[i] + share;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kPer; i++)
    if (first + i * kThreads < p.count) p.mass[row * p.mass_stride + first + i * kThreads] = out[i] * factor;
}

kvt_status softmax_mass(const CudaCall& call) {
  SoftmaxMass p{};
  const int64_t rows = call.integer(KVT_SOFTMAX_MASS_INT_ROWS);
  const int64_t count = call.integer(KVT_SOFTMAX_MASS_INT_COUNT);
  p.scores = call.at<const float>(KVT_SOFTMAX_MASS_REF_SCORES);
  p.mass = call.at<float>(KVT_SOFTMAX_MASS_REF_MASS);
  p.score_stride = call.integer(KVT_SOFTMAX_MASS_INT_SCORE_STRIDE);
  p.mass_stride = call.integer(KVT_SOFTMAX_MASS_INT_MASS_STRIDE);
  p.group = static_cast<int>(call.integer(KVT_SOFTMAX_MASS_INT_GROUP));
  p.reduce = static_cast<int>(call.integer(KVT_SOFTMAX_MASS_INT_REDUCE));
  if (rows < 1 || rows * call.integer(KVT_SOFTMAX_MASS_INT_GROUP) > 65535 || p.group < 1 || p.group > kMostGroup || count < 1 || count > (1 << 30))
    return fail(KVT_INVALID, "softmax-mass: expected rows x group 1 to 65535, group 1 to 32 and count 1 to 2^30");
  if (p.reduce < kMax || p.reduce > kSum) return fail(KVT_INVALID, "softmax-mass: expected reduce 1, 2 or 3");
  p.count = static_cast<int>(count);
  p.slices = (p.count + kSlice - 1) / kSlice;
  p.partials = static_cast<float2*>(call.scratch);
  if (static_cast<uint64_t>(rows) * p.group * p.slices * sizeof(float2) > call.scratch_bytes)
    return fail(KVT_INVALID, "softmax-mass: more rows and scores than the scratch has room for");
  const dim3 queries(static_cast<unsigned>(p.slices), static_cast<unsigned>(rows * p.group));
  launch_kernel(call, sum_slices, {queries, kThreads}, p);
  // A score a thread while half of the multiprocessors stay free: blocks of the next kernel come up beside these, where there
  // is most room (H100: pq-score of 24 rows took 29 us behind 48 blocks, 51 behind 120).
  const int64_t blocks = (p.count + kThreads - 1) / kThreads;
  if (2 * rows * blocks <= call.multiprocessors) {
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(rows));
    launch_kernel(call, write_mass<1, 16>, {grid, kThreads}, p);
  } else {
    const dim3 grid(static_cast<unsigned>(p.slices), static_cast<unsigned>(rows));
    if (p.group < 4)
      launch_kernel(call, write_mass<kPerThread, 1>, {grid, kThreads}, p);
    else
      launch_kernel(call, write_mass<kPerThread, 4>, {grid, kThreads}, p);
  }
  return after_launch("softmax-mass");
}

KVT_CUDA_KERNEL(KVT_SOFTMAX_MASS, softmax_mass);

}  // namespace
