// Scores of heads become one a token (calls/reduce-scores.ts): a thread a token, several heads' scores on their way at once.
#include "launch.h"

namespace {

using namespace kvt;

enum Reduce : int { kMax = 1, kMean = 2, kSum = 3 };

constexpr int kThreads = 128;

struct Reduction {
  const float* scores;
  float* out;
  int64_t score_stride, out_stride;
  int group, count, reduce;
};

__global__ void __launch_bounds__(kThreads) reduce_heads(const Reduction p) {
  begin_kernel();
  const int token = blockIdx.x * kThreads + threadIdx.x;
  if (token >= p.count) return;
  const int64_t row = blockIdx.y;
  const float* own = p.scores + row * p.group * p.score_stride + token;
  float value = *own;
#pragma unroll 8
  for (int head = 1; head < p.group; head++) {
    const float other = own[head * p.score_stride];
    value = p.reduce == kMax ? fmaxf(value, other) : value + other;
  }
  p.out[row * p.out_stride + token] = p.reduce == kMean ? value / p.group : value;
}

kvt_status reduce_scores(const CudaCall& call) {
  const int64_t rows = call.integer(KVT_REDUCE_SCORES_INT_ROWS);
  const int64_t count = call.integer(KVT_REDUCE_SCORES_INT_COUNT);
  Reduction p{};
  p.scores = call.at<const float>(KVT_REDUCE_SCORES_REF_SCORES);
  p.out = call.at<float>(KVT_REDUCE_SCORES_REF_OUT);
  p.score_stride = call.integer(KVT_REDUCE_SCORES_INT_SCORE_STRIDE);
  p.out_stride = call.integer(KVT_REDUCE_SCORES_INT_OUT_STRIDE);
  p.group = static_cast<int>(call.integer(KVT_REDUCE_SCORES_INT_GROUP));
  p.reduce = static_cast<int>(call.integer(KVT_REDUCE_SCORES_INT_REDUCE));
  if (rows < 1 || rows > 65535 || p.group < 1 || count < 1 || count > (1 << 30) || p.reduce < kMax || p.reduce > kSum)
    return fail(KVT_INVALID, "reduce-scores: expected rows 1 to 65535, group 1 or more, count 1 to 2^30 and reduce 1, 2 or 3");
  p.count = static_cast<int>(count);
  const dim3 grid(static_cast<unsigned>((p.count + kThreads - 1) / kThreads), static_cast<unsigned>(rows));
  launch_kernel(call, reduce_heads, {grid, kThreads}, p);
  return after_launch("reduce-scores");
}

KVT_CUDA_KERNEL(KVT_REDUCE_SCORES, reduce_scores);

}  // namespace
