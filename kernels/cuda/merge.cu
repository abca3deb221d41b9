// Merge of partial attention; arguments and formula in calls/merge.ts. One block a row.
#include "launch.h"

namespace {

using namespace kvt;

__global__ void merge_rows(const float* __restrict__ partials, float* __restrict__ out, int parts, int dim) {
  begin_kernel();
  const int64_t width = dim + 2;
  const float* first = partials + static_cast<int64_t>(blockIdx.x) * parts * width;
  float max = -INFINITY;
  for (int p = 0; p < parts; p++)
    if (first[p * width + dim + 1] > 0) max = fmaxf(max, first[p * width + dim]);
  for (int d = threadIdx.x; d < dim; d += blockDim.x) {
    float sum = 0, weight = 0;
    for (int p = 0; p < parts; p++) {
      const float l = first[p * width + dim + 1];
      if (!(l > 0)) continue;
      const float factor = __expf(first[p * width + dim] - max);
      weight += factor * l;
      sum += factor * first[p * width + d];
    }
    out[static_cast<int64_t>(blockIdx.x) * dim + d] = weight > 0 ? sum / weight : 0;
  }
}

kvt_status merge(const CudaCall& call) {
  const int64_t rows = call.integer(KVT_MERGE_INT_ROWS);
  const int parts = static_cast<int>(call.integer(KVT_MERGE_INT_PARTS));
  const int dim = static_cast<int>(call.integer(KVT_MERGE_INT_HEAD_DIM));
  if (rows < 1 || parts < 1 || dim < 1) return fail(KVT_INVALID, "merge: rows, parts and headDim must be 1 or more");
  launch_kernel(call, merge_rows, {static_cast<unsigned>(rows), 128}, call.at<const float>(KVT_MERGE_REF_PARTIALS),
                call.at<float>(KVT_MERGE_REF_OUT), parts, dim);
  return after_launch("merge");
}

KVT_CUDA_KERNEL(KVT_MERGE, merge);

}  // namespace
