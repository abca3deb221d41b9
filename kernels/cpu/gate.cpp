// WG-KV's write gate (calls/gate.ts).
#include <cmath>

#include "products.h"
#include "row-scores.h"

namespace {

using namespace kvt;

// A key's part of the input, rounded as the product takes it.
void normalise(const uint16_t* key, const uint16_t* weights, int64_t dim, float epsilon, float* out) {
  widen(key, dim, out);
  const float inverse = 1 / std::sqrt(dot(out, out, dim) / static_cast<float>(dim) + epsilon);
  for (int64_t c = 0; c < dim; c++) out[c] = of_bf16(bf16_of(out[c] * inverse * of_bf16(weights[c])));
}

// Hidden units at a time.
constexpr int64_t kUnits = 64;

// erf to 1.5e-7: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
Lanes erf_of(const Lanes& given) {
  const Lanes x = given > 0 ? given : -given;
  const Lanes t = 1 / (1 + 0.3275911f * x);
  const Lanes sum = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  const Lanes size = 1 - sum * exp2_of(x * x * -1.44269504f);
  return given > 0 ? size : -size;
}

// The sum of w2 * gelu(unit + b1); units past the last are cleared.
float activated(float* units, const uint16_t* b1, const uint16_t* w2, int64_t count) {
  float bias[kUnits] = {}, weight[kUnits] = {};
  widen(b1, count, bias);
  widen(w2, count, weight);
  std::fill(units + count, units + kUnits, 0.0f);
  Lanes sum{};
  for (int64_t h = 0; h < kUnits; h += kLanes) {
    const Lanes unit = lanes_at(units + h) + lanes_at(bias + h);
    sum += lanes_at(weight + h) * 0.5f * unit * (1 + erf_of(unit * 0.70710678f));
  }
  return total(sum);
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
    Columns columns(2 * dim);
    std::vector<float> inputs(tokens * columns.width()), units(tokens * kUnits), sums(tokens);
    for (int64_t head = from; head < to; head++) {
      for (int64_t token = 0; token < tokens; token++) {
        const int64_t key = (token * heads + head) * dim;
        float* input = inputs.data() + token * columns.width();
        normalise(before + key, norms, dim, epsilon, input);
        normalise(after + key, norms + dim, dim, epsilon, input + dim);
        sums[token] = of_bf16(b2[head]);
      }
      for (int64_t h = head * hidden, end = h + hidden; h < end; h += kUnits) {
        const int64_t count = std::min(kUnits, end - h);
        // A row of weights is read once for all tokens.
        columns.multiply(inputs.data(), tokens, w1 + h * 2 * dim, count, units.data(), kUnits);
        for (int64_t token = 0; token < tokens; token++)
          sums[token] += activated(units.data() + token * kUnits, b1 + h, w2 + h, count);
      }
      for (int64_t token = 0; token < tokens; token++) scores[token * heads + head] = 1 / (1 + std::exp(-sums[token]));
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_GATE, gate);

}  // namespace
