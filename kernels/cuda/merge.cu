// Merge of partial attention; arguments and formula in calls/merge.ts. One block a row; a lane of each warp holds the weight
// of a part, and the loads of eight parts are on their way at a time, so that few parts take as long as one.
#include "block-sum.h"
#include "launch.h"

namespace {

using namespace kvt;

constexpr int kThreads = 128;
constexpr int kAtOnce = 8;

__device__ __forceinline__ float most_of_warp(float value) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, by));
  return value;
}

__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) value += __shfl_xor_sync(kAllLanes, value, by);
  return value;
}

__global__ void __launch_bounds__(kThreads) merge_rows(const float* __restrict__ partials, float* __restrict__ out,
                                                       int parts, int dim, bool next_ahead) {
  begin_kernel(next_ahead);
  const int64_t width = dim + 2;
  const float* row = partials + static_cast<int64_t>(blockIdx.x) * parts * width;
  const int lane = threadIdx.x & 31;
  for (int base = 0; base < dim; base += kThreads) {
    const int d = base + static_cast<int>(threadIdx.x);
    float max = -INFINITY, weight = 0, sum = 0;
    for (int from = 0; from < parts; from += 32) {
      const int count = min(32, parts - from);
      const float* first = row + from * width;
      float values[kAtOnce];
      const auto load = [&](int part) {
#pragma unroll
        for (int i = 0; i < kAtOnce; i++)
          values[i] = part + i < count && d < dim ? first[(part + i) * width + d] : 0;
      };
      load(0);
      const float m = lane < count ? first[lane * width + dim] : 0;
      const float l = lane < count ? first[lane * width + dim + 1] : 0;
      const float next = fmaxf(max, most_of_warp(l > 0 ? m : -INFINITY));
      // Nothing was attended to so far: no scale is right for it, and none is asked for.
      const float kept = max == -INFINITY ? 0 : __expf(max - next);
      const float factor = l > 0 ? __expf(m - next) : 0;
      weight = kept * weight + sum_of_warp(factor * l);
      sum *= kept;
      max = next;
      for (int part = 0; part < count; part += kAtOnce) {
#pragma unroll
        for (int i = 0; i < kAtOnce; i++) {
          // What a part without weight holds is no number.
          const float own = __shfl_sync(kAllLanes, factor, part + i & 31);
          if (own > 0) sum = fmaf(own, values[i], sum);
        }
        load(part + kAtOnce);
      }
    }
    if (d < dim) out[static_cast<int64_t>(blockIdx.x) * dim + d] = weight > 0 ? sum / weight : 0;
  }
}

kvt_status merge(const CudaCall& call) {
  const int64_t rows = call.integer(KVT_MERGE_INT_ROWS);
  const int parts = static_cast<int>(call.integer(KVT_MERGE_INT_PARTS));
  const int dim = static_cast<int>(call.integer(KVT_MERGE_INT_HEAD_DIM));
  if (rows < 1 || parts < 1 || dim < 1) return fail(KVT_INVALID, "merge: rows, parts and headDim must be 1 or more");
  launch_kernel(call, merge_rows, {static_cast<unsigned>(rows), kThreads}, call.at<const float>(KVT_MERGE_REF_PARTIALS),
                call.at<float>(KVT_MERGE_REF_OUT), parts, dim, call.next_ahead);
  return after_launch("merge");
}

KVT_CUDA_KERNEL_AHEAD(KVT_MERGE, merge);

}  // namespace
