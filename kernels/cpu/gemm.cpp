// Projection of a few tokens on the CPU; arguments in calls/gemm.ts. Threads share the columns; a row of weights is
// widened once and multiplied with every token.
#include <vector>

#include "row-scores.h"

namespace {

using namespace kvt;

kvt_status gemm(const CpuCall& call) {
  const int64_t m = call.integer(KVT_GEMM_INT_M);
  const int64_t n = call.integer(KVT_GEMM_INT_N);
  const int64_t k = call.integer(KVT_GEMM_INT_K);
  if (m < 1 || n < 1 || k < 8 || k % 8 != 0)
    return fail(KVT_INVALID, "gemm: m and n must be 1 or more, k a multiple of 8");
  const uint16_t* weights = call.at<const uint16_t>(KVT_GEMM_REF_WEIGHTS);
  const bool half = call.integer(KVT_GEMM_INT_OUT_TYPE) == 1;
  std::vector<float> x(m * k);
  widen(call.at<const uint16_t>(KVT_GEMM_REF_X), m * k, x.data());
  call.threads.run(n, [&](int64_t from, int64_t to) {
    std::vector<float> row(k);
    for (int64_t column = from; column < to; column++) {
      widen(weights + column * k, k, row.data());
      for (int64_t token = 0; token < m; token++) {
        const float sum = dot(x.data() + token * k, row.data(), k);
        if (half) call.at<uint16_t>(KVT_GEMM_REF_OUT)[token * n + column] = bf16_of(sum);
        else call.at<float>(KVT_GEMM_REF_OUT)[token * n + column] = sum;
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_GEMM, gemm);

}  // namespace
