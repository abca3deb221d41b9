// Estimated q·k of candidates from their 4-bit codes (calls/paris-rerank.ts).
#include "paris.h"

namespace {

using namespace kvt;

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
      const int64_t token = row * token_stride + candidates[row * id_stride + i];
      float sum = 0;
      for (int64_t b = 0; b < dim; b += kSubspace) {
        const float weight = of_f16(weights[token * weight_stride / 2 + b / kSubspace]);
        float dot = 0;
        for (int64_t c = b; c < b + kSubspace; c++) {
          const int code = codes[token * code_stride + c / 2] >> (4 * (c & 1));
          const float value = (code & 8) != 0 ? -kCentres[code & 7] : kCentres[code & 7];
          dot += query[row][c] * value;
          if (decoded != nullptr) decoded[at * dim + c] = bf16_of(weight * value);
        }
        sum += weight * dot;
      }
      estimates[row * estimate_stride + i] = sum;
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_PARIS_RERANK, paris_rerank);

}  // namespace
