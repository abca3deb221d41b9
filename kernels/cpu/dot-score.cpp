// Products of a group's queries with rows that stand for tokens (calls/dot-score.ts).
#include "pieces.h"
#include "row-scores.h"

namespace {

using namespace kvt;

kvt_status dot_score(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_DOT_SCORE_INT_ROWS);
  const int64_t group = call.integer(KVT_DOT_SCORE_INT_GROUP);
  const int64_t count = call.integer(KVT_DOT_SCORE_INT_COUNT);
  const int64_t dim = call.integer(KVT_DOT_SCORE_INT_HEAD_DIM);
  const Pieces vectors{call.at<const char>(KVT_DOT_SCORE_REF_VECTORS), call.at<const uint32_t>(KVT_DOT_SCORE_REF_PIECES),
                       call.integer(KVT_DOT_SCORE_INT_PIECE_VECTORS), call.integer(KVT_DOT_SCORE_INT_PIECE_STRIDE),
                       call.integer(KVT_DOT_SCORE_INT_PIECE_BYTES)};
  if (rows < 1 || count < 1 || dim < 1 || vectors.vectors < 1 || group < 1 || group > kMostGroup)
    return fail(KVT_INVALID, "dot-score: expected rows, count, headDim and pieceVectors 1 or more and group 1 to 32");
  std::vector<float> queries(rows * group * dim);
  widen(call.at<const uint16_t>(KVT_DOT_SCORE_REF_QUERIES), rows * group * dim, queries.data());
  const ScoreRow out{call.at<float>(KVT_DOT_SCORE_REF_SCORES), group, call.integer(KVT_DOT_SCORE_INT_SCORE_STRIDE),
                     call.integer(KVT_DOT_SCORE_INT_REDUCE)};
  score_vectors(call.threads, queries, rows, count, dim, static_cast<float>(call.real(KVT_DOT_SCORE_REAL_SCALE)), out,
                [=](int64_t row, int64_t i) { return vectors.at(row, i, dim); });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_DOT_SCORE, dot_score);

}  // namespace
