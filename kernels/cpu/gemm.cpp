// Projection of a few tokens on the CPU; arguments in calls/gemm.ts. Threads share the columns; a row of weights is
// widened once and multiplied with every token.
#include <vector>

#include "lanes.h"
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
  // Rows are padded: zeros add nothing.
  const int64_t width = (k + kPad - 1) / kPad * kPad;
  std::vector<float> x(m * width);
  for (int64_t token = 0; token < m; token++)
    widen(call.at<const uint16_t>(KVT_GEMM_REF_X) + token * k, k, x.data() + token * width);
  call.threads.run(n, [&](int64_t from, int64_t to) {
    std::vector<float> row(width), sums(m);
    for (int64_t column = from; column < to; column++) {
      widen(weights + column * k, k, row.data());
      int64_t done = 0;
      for (; done + 4 <= m; done += 4)
        four_products(x.data() + done * width, width, row.data(), sums.data() + done, 1);
      for (; done < m; done++) sums[done] = dot(x.data() + done * width, row.data(), width);
      for (int64_t token = 0; token < m; token++) {
        if (half) call.at<uint16_t>(KVT_GEMM_REF_OUT)[token * n + column] = bf16_of(sums[token]);
        else call.at<float>(KVT_GEMM_REF_OUT)[token * n + column] = sums[token];
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_GEMM, gemm);

}  // namespace
