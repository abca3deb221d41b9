// Estimated q·k of candidates from their 4-bit codes (calls/paris-rerank.ts). A code is a sign and one of eight centres,
// which registers look up: signs are as good as random, and branches on them take ten times as long.
#include "nibbles.h"
#include "paris.h"

namespace {

using namespace kvt;

// Candidates lie anywhere; so many ahead one's codes are asked for.
constexpr int64_t kAhead = 8;

// A candidate's numbers, weight times centre, and their product with the query; `decoded` may be null.
float decode_candidate(const uint8_t* codes, const uint16_t* weights, const float* query, int64_t dim, uint16_t* decoded) {
  int64_t c = 0;
  float sum = 0;
#if defined(__AVX2__)
  const Words shifts = places() * 4;
  Lanes sums{};
  for (; c + kLanes <= dim; c += kLanes) {
    const Words code = words_at<kLanes / 2>(codes + c / 2) >> shifts;
    const Lanes size = looked_up(kCentres, code);
    const Words bits = reinterpret_cast<const Words&>(size) | (code & 8) << 28;
    const uint16_t* pair = weights + c / kSubspace;
    const Lanes weight = kEights == 1 ? Lanes{} + of_f16(pair[0]) : in_eights(of_f16(pair[0]), of_f16(pair[kEights - 1]));
    const Lanes value = reinterpret_cast<const Lanes&>(bits) * weight;
    sums += lanes_at(query + c) * value;
    if (decoded != nullptr) narrow(value, decoded + c);
  }
  sum = total(sums);
#endif
  for (; c < dim; c++) {
    const int code = codes[c / 2] >> (4 * (c & 1));
    const float value = kCentres[code & 7] * of_f16(weights[c / kSubspace]) * ((code & 8) != 0 ? -1.0f : 1.0f);
    sum += query[c] * value;
    if (decoded != nullptr) decoded[c] = bf16_of(value);
  }
  return sum;
}

kvt_status paris_rerank(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_PARIS_RERANK_INT_ROWS);
  const int64_t group = call.integer(KVT_PARIS_RERANK_INT_GROUP);
  const int64_t head_dim = call.integer(KVT_PARIS_RERANK_INT_HEAD_DIM);
  const int64_t count = call.integer(KVT_PARIS_RERANK_INT_COUNT);
  const int64_t id_stride = call.integer(KVT_PARIS_RERANK_INT_ID_STRIDE);
  const int64_t token_stride = call.integer(KVT_PARIS_RERANK_INT_TOKEN_STRIDE);
  const int64_t estimate_stride = call.integer(KVT_PARIS_RERANK_INT_ESTIMATE_STRIDE);
  const int64_t code_stride = call.integer(KVT_PARIS_RERANK_INT_CODE_STRIDE);
  const int64_t weight_stride = call.integer(KVT_PARIS_RERANK_INT_WEIGHT_STRIDE);
  if (rows < 1 || group < 1 || head_dim < 1 || count < 1)
    return fail(KVT_INVALID, "paris-rerank: expected rows, group, headDim and count 1 or more");
  const uint16_t* queries = call.at<const uint16_t>(KVT_PARIS_RERANK_REF_QUERIES);
  const float* signs = call.at<const float>(KVT_PARIS_RERANK_REF_SIGNS);
  const uint32_t* candidates = call.at<const uint32_t>(KVT_PARIS_RERANK_REF_CANDIDATES);
  const uint8_t* codes = call.at<const uint8_t>(KVT_PARIS_RERANK_REF_CODES);
  const uint16_t* weights = call.at<const uint16_t>(KVT_PARIS_RERANK_REF_WEIGHTS);
  float* estimates = call.at<float>(KVT_PARIS_RERANK_REF_ESTIMATES);
  uint16_t* decoded = call.at<uint16_t>(KVT_PARIS_RERANK_REF_DECODED);
  const int64_t dim = padded_dim(head_dim);
  std::vector<std::vector<float>> query;
  for (int64_t row = 0; row < rows; row++)
    query.push_back(rotated_query(queries + row * group * head_dim, group, head_dim, signs));
  call.threads.run(rows * count, [&](int64_t from, int64_t to) {
    for (int64_t at = from; at < to; at++) {
      const int64_t row = at / count;
      const int64_t i = at % count;
      if (i + kAhead < count) {
        const int64_t coming = row * token_stride + candidates[row * id_stride + i + kAhead];
        __builtin_prefetch(codes + coming * code_stride);
        __builtin_prefetch(weights + coming * weight_stride / 2);
      }
      const int64_t token = row * token_stride + candidates[row * id_stride + i];
      estimates[row * estimate_stride + i] =
          decode_candidate(codes + token * code_stride, weights + token * weight_stride / 2, query[row].data(), dim,
                           decoded == nullptr ? nullptr : decoded + at * dim);
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_PARIS_RERANK, paris_rerank);

}  // namespace
