// WG-KV's write gate (calls/gate.ts).
#include <cmath>

#include "row-scores.h"

namespace {

using namespace kvt;

// A key's part of the input, rounded as the product takes it.
void normalise(const uint16_t* key, const uint16_t* weights, int64_t dim, float epsilon, float* out) {
  widen(key, dim, out);
  const float inverse = 1 / std::sqrt(dot(out, out, dim) / static_cast<float>(dim) + epsilon);
  for (int64_t c = 0; c < dim; c++) out[c] = of_bf16(bf16_of(out[c] * inverse * of_bf16(weights[c])));
}

kvt_status gate(const CpuCall& call) {
  const int64_t tokens = call.integer(KVT_GATE_INT_TOKENS);
  const int64_t heads = call.integer(KVT_GATE_INT_KV_HEADS);
  const int64_t dim = call.integer(KVT_GATE_INT_HEAD_DIM);
  const int64_t hidden = call.integer(KVT_GATE_INT_HIDDEN);
  const float epsilon = static_cast<float>(call.real(KVT_GATE_REAL_EPSILON));
  if (tokens < 1 || heads < 1 || dim < 1 || hidden < 1)
    return fail(KVT_INVALID, "gate: expected tokens, kvHeads, headDim and hidden 1 or more");
  const uint16_t* before = call.at<const uint16_t>(KVT_GATE_REF_BEFORE);
  const uint16_t* after = call.at<const uint16_t>(KVT_GATE_REF_AFTER);
  const uint16_t* norms = call.at<const uint16_t>(KVT_GATE_REF_NORMS);
  const uint16_t* w1 = call.at<const uint16_t>(KVT_GATE_REF_W1);
  const uint16_t* b1 = call.at<const uint16_t>(KVT_GATE_REF_B1);
  const uint16_t* w2 = call.at<const uint16_t>(KVT_GATE_REF_W2);
  const uint16_t* b2 = call.at<const uint16_t>(KVT_GATE_REF_B2);
  float* scores = call.at<float>(KVT_GATE_REF_SCORES);
  call.threads.run(heads, [&](int64_t from, int64_t to) {
    std::vector<float> weights(2 * dim), inputs(tokens * 2 * dim), sums(tokens);
    for (int64_t head = from; head < to; head++) {
      for (int64_t token = 0; token < tokens; token++) {
        const int64_t key = (token * heads + head) * dim;
        normalise(before + key, norms, dim, epsilon, inputs.data() + token * 2 * dim);
        normalise(after + key, norms + dim, dim, epsilon, inputs.data() + token * 2 * dim + dim);
        sums[token] = of_bf16(b2[head]);
      }
      // A row of weights is read once for all tokens.
      for (int64_t h = head * hidden; h < (head + 1) * hidden; h++) {
        widen(w1 + h * 2 * dim, 2 * dim, weights.data());
        for (int64_t token = 0; token < tokens; token++) {
          const float unit = of_bf16(b1[h]) + dot(weights.data(), inputs.data() + token * 2 * dim, 2 * dim);
          sums[token] += of_bf16(w2[h]) * 0.5f * unit * (1 + std::erf(unit * 0.70710678f));
        }
      }
      for (int64_t token = 0; token < tokens; token++) scores[token * heads + head] = 1 / (1 + std::exp(-sums[token]));
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_GATE, gate);

}  // namespace
