// How many scores of each row lie near its largest (calls/near-count.ts): one launch finds the largest of slices of every
// row, a second joins them and counts. The scores, just written by another kernel, come from L2.
#include "block-sum.h"
#include "launch.h"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
constexpr int kPerThread = 8;
constexpr int kSlice = kThreads * kPerThread;
constexpr int kWarps = kThreads / 32;

struct NearCount {
  const float* scores;
  uint32_t* counts;
  float* largest;  // [rows, slices]
  int64_t stride;
  int count, slices;
  float alpha;
};

__device__ __forceinline__ float largest_in_warp(float mine) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) mine = fmaxf(mine, __shfl_xor_sync(kAllLanes, mine, by));
  return mine;
}

// The thread's scores of its block's slice; -infinity beyond the row.
__device__ __forceinline__ void load_slice(const NearCount& p, float (&own)[kPerThread]) {
  const float* scores = p.scores + blockIdx.y * p.stride;
  const int first = blockIdx.x * kSlice + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kPerThread; i++)
    own[i] = first + i * kThreads < p.count ? scores[first + i * kThreads] : -INFINITY;
}

__global__ void __launch_bounds__(kThreads) find_largest(const NearCount p) {
  begin_kernel();
  __shared__ float warps[kWarps];
  float own[kPerThread];
  load_slice(p, own);
  float most = own[0];
#pragma unroll
  for (int i = 1; i < kPerThread; i++) most = fmaxf(most, own[i]);
  most = largest_in_warp(most);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = most;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kWarps; w++) most = fmaxf(most, warps[w]);
  p.largest[blockIdx.y * p.slices + blockIdx.x] = most;
  if (blockIdx.x == 0) p.counts[blockIdx.y] = 0;
}

__global__ void __launch_bounds__(kThreads) count_near(const NearCount p) {
  begin_kernel();
  __shared__ int warps[kWarps];
  float own[kPerThread];
  load_slice(p, own);
  float most = -INFINITY;
  for (int slice = threadIdx.x % 32; slice < p.slices; slice += 32)
    most = fmaxf(most, p.largest[blockIdx.y * p.slices + slice]);
  const float least = largest_in_warp(most) - p.alpha;
  int near = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; i++) near += own[i] > least ? 1 : 0;
  near = __reduce_add_sync(kAllLanes, near);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = near;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kWarps; w++) near += warps[w];
  atomicAdd(p.counts + blockIdx.y, static_cast<uint32_t>(near));
}

kvt_status near_count(const CudaCall& call) {
  const int64_t rows = call.integer(KVT_NEAR_COUNT_INT_ROWS);
  const int64_t count = call.integer(KVT_NEAR_COUNT_INT_COUNT);
  if (rows < 1 || rows > 65535 || count < 1 || count > (1 << 30))
    return fail(KVT_INVALID, "near-count: expected rows 1 to 65535 and count 1 to 2^30");
  NearCount p{};
  p.scores = call.at<const float>(KVT_NEAR_COUNT_REF_SCORES);
  p.counts = call.at<uint32_t>(KVT_NEAR_COUNT_REF_COUNTS);
  p.largest = static_cast<float*>(call.scratch);
  p.stride = call.integer(KVT_NEAR_COUNT_INT_SCORE_STRIDE);
  p.count = static_cast<int>(count);
  p.slices = (p.count + kSlice - 1) / kSlice;
  p.alpha = static_cast<float>(call.real(KVT_NEAR_COUNT_REAL_ALPHA));
  if (static_cast<uint64_t>(rows) * p.slices * sizeof(float) > call.scratch_bytes)
    return fail(KVT_INVALID, "near-count: more rows and scores than the scratch has room for");
  const dim3 grid(static_cast<unsigned>(p.slices), static_cast<unsigned>(rows));
  launch_kernel(call, find_largest, {grid, kThreads}, p);
  launch_kernel(call, count_near, {grid, kThreads}, p);
  return after_launch("near-count");
}

KVT_CUDA_KERNEL(KVT_NEAR_COUNT, near_count);

}  // namespace
