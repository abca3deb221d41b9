// Merge of partial attention; arguments and formula in calls/merge.ts.
#include <cmath>

#include "kernel.h"

namespace {

using namespace kvt;

kvt_status merge(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_MERGE_INT_ROWS);
  const int64_t parts = call.integer(KVT_MERGE_INT_PARTS);
  const int64_t dim = call.integer(KVT_MERGE_INT_HEAD_DIM);
  if (rows < 1 || parts < 1 || dim < 1) return fail(KVT_INVALID, "merge: rows, parts and headDim must be 1 or more");
  const float* partials = call.at<const float>(KVT_MERGE_REF_PARTIALS);
  float* out = call.at<float>(KVT_MERGE_REF_OUT);
  const int64_t width = dim + 2;
  call.threads.run(rows, [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
      const float* first = partials + row * parts * width;
      float* to_row = out + row * dim;
      float max = -INFINITY;
      for (int64_t p = 0; p < parts; p++)
        if (first[p * width + dim + 1] > 0) max = std::fmax(max, first[p * width + dim]);
      for (int64_t d = 0; d < dim; d++) to_row[d] = 0;
      float weight = 0;
      for (int64_t p = 0; p < parts; p++) {
        const float l = first[p * width + dim + 1];
        if (!(l > 0)) continue;
        const float factor = std::exp(first[p * width + dim] - max);
        weight += factor * l;
        for (int64_t d = 0; d < dim; d++) to_row[d] += factor * first[p * width + d];
      }
      if (weight > 0)
        for (int64_t d = 0; d < dim; d++) to_row[d] /= weight;
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_MERGE, merge);

}  // namespace
