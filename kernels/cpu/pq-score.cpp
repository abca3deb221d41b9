// Estimated products from product codes (calls/pq-score.ts).
#include "row-scores.h"

namespace {

using namespace kvt;

kvt_status pq_score(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_PQ_SCORE_INT_ROWS);
  const int64_t group = call.integer(KVT_PQ_SCORE_INT_GROUP);
  const int64_t count = call.integer(KVT_PQ_SCORE_INT_COUNT);
  const int64_t dim = call.integer(KVT_PQ_SCORE_INT_HEAD_DIM);
  const int64_t subspaces = call.integer(KVT_PQ_SCORE_INT_SUBSPACES);
  const int64_t centroids = call.integer(KVT_PQ_SCORE_INT_CENTROIDS);
  const int64_t token_stride = call.integer(KVT_PQ_SCORE_INT_TOKEN_STRIDE);
  const float scale = static_cast<float>(call.real(KVT_PQ_SCORE_REAL_SCALE));
  if (rows < 1 || count < 1 || group < 1 || group > kMostGroup || centroids < 1 || centroids > 256)
    return fail(KVT_INVALID, "pq-score: expected rows and count 1 or more, group 1 to 32 and centroids 1 to 256");
  if (subspaces < 1 || dim % subspaces != 0) return fail(KVT_INVALID, "pq-score: subspaces must divide headDim");
  const float* books = call.at<const float>(KVT_PQ_SCORE_REF_BOOKS);
  const uint8_t* codes = call.at<const uint8_t>(KVT_PQ_SCORE_REF_CODES);
  const int64_t channels = dim / subspaces;
  const int64_t entries = subspaces * centroids;
  std::vector<float> queries(rows * group * dim);
  widen(call.at<const uint16_t>(KVT_PQ_SCORE_REF_QUERIES), rows * group * dim, queries.data());
  std::vector<float> products(rows * group * entries);  // of each query with each centroid
  for (int64_t query = 0; query < rows * group; query++)
    for (int64_t at = 0; at < entries; at++)
      products[query * entries + at] = scale * dot(queries.data() + query * dim + at / centroids * channels,
                                                   books + (query / group * entries + at) * channels, channels);
  const ScoreRow first{call.at<float>(KVT_PQ_SCORE_REF_SCORES), group, call.integer(KVT_PQ_SCORE_INT_SCORE_STRIDE),
                       call.integer(KVT_PQ_SCORE_INT_REDUCE)};
  call.threads.run(rows * count, [&](int64_t from, int64_t to) {
    float scores[kMostGroup];
    for (int64_t at = from; at < to; at++) {
      const int64_t row = at / count;
      const int64_t i = at % count;
      const uint8_t* own = codes + (row * token_stride + i) * subspaces;
      for (int64_t g = 0; g < group; g++) {
        const float* table = products.data() + (row * group + g) * entries;
        scores[g] = 0;
        for (int64_t s = 0; s < subspaces; s++) scores[g] += table[s * centroids + own[s]];
      }
      first.of_row(row).write(scores, i);
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_PQ_SCORE, pq_score);

}  // namespace
