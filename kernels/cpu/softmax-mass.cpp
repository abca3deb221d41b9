// Softmax of each query's scores, reduced over the group (calls/softmax-mass.ts).
#include <algorithm>
#include <cmath>

#include "kernel.h"

namespace {

using namespace kvt;

enum Reduce : int64_t { kMax = 1, kMean = 2, kSum = 3 };

kvt_status softmax_mass(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_SOFTMAX_MASS_INT_ROWS);
  const int64_t group = call.integer(KVT_SOFTMAX_MASS_INT_GROUP);
  const int64_t count = call.integer(KVT_SOFTMAX_MASS_INT_COUNT);
  const int64_t score_stride = call.integer(KVT_SOFTMAX_MASS_INT_SCORE_STRIDE);
  const int64_t mass_stride = call.integer(KVT_SOFTMAX_MASS_INT_MASS_STRIDE);
  const int64_t reduce = call.integer(KVT_SOFTMAX_MASS_INT_REDUCE);
  if (rows < 1 || group < 1 || count < 1 || reduce < kMax || reduce > kSum)
    return fail(KVT_INVALID, "softmax-mass: expected rows, group and count 1 or more and reduce 1, 2 or 3");
  const float* scores = call.at<const float>(KVT_SOFTMAX_MASS_REF_SCORES);
  float* mass = call.at<float>(KVT_SOFTMAX_MASS_REF_MASS);
  call.threads.run(rows, [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
      float* out = mass + row * mass_stride;
      std::fill(out, out + count, 0.0f);
      for (int64_t g = 0; g < group; g++) {
        const float* own = scores + (row * group + g) * score_stride;
        const float most = *std::max_element(own, own + count);
        double sum = 0;
        for (int64_t i = 0; i < count; i++) sum += std::exp(own[i] - most);
        const float factor = static_cast<float>(1 / (reduce == kMean ? sum * static_cast<double>(group) : sum));
        for (int64_t i = 0; i < count; i++) {
          const float share = std::exp(own[i] - most) * factor;
          out[i] = reduce == kMax ? std::max(out[i], share) : out[i] + share;
        }
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_SOFTMAX_MASS, softmax_mass);

}  // namespace
