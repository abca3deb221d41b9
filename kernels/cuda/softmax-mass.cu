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

__global__ void __launch_bounds__(kThreads) write_mass(const SoftmaxMass p) {
  begin_kernel();
  __shared__ float2 totals[kMostGroup];  // maximum, inverse sum
  const int64_t row = blockIdx.y;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x & 31;
  for (int g = warp; g < p.group; g += kThreads / 32) {
    float2 all = make_float2(-INFINITY, 0);
    for (int slice = lane; slice < p.slices; slice += 32)
      all = joined(all, p.partials[(row * p.group + g) * p.slices + slice]);
    all = joined_in_warp(all);
    if (lane == 0) totals[g] = make_float2(all.x, 1 / all.y);
  }
  __syncthreads();
  const float* scores = p.scores + row * p.group * p.score_stride;
  const float factor = p.reduce == kMean ? 1.0f / p.group : 1.0f;
  const int first = blockIdx.x * kSlice + threadIdx.x;
  float out[kPerThread] = {};
#pragma unroll 4
  for (int g = 0; g < p.group; g++) {
    const float2 total = totals[g];
#pragma unroll
    for (int i = 0; i < kPerThread; i++) {
      const int at = first + i * kThreads;
      if (at >= p.count) continue;
      const float share = __expf(scores[g * p.score_stride + at] - total.x) * total.y;
      out[i] = p.reduce == kMax ? fmaxf(out[i], share) : out[i] + share;
    }
  }
#pragma unroll
  for (int i = 0; i < kPerThread; i++)
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
  const dim3 grid(static_cast<unsigned>(p.slices), static_cast<unsigned>(rows));
  launch_kernel(call, sum_slices, {queries, kThreads}, p);
  launch_kernel(call, write_mass, {grid, kThreads}, p);
  return after_launch("softmax-mass");
}

KVT_CUDA_KERNEL(KVT_SOFTMAX_MASS, softmax_mass);

}  // namespace
