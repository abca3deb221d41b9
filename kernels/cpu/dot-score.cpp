// Products of a group's queries with rows that stand for tokens (calls/dot-score.ts).
#include "row-scores.h"

namespace {

using namespace kvt;

kvt_status dot_score(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_DOT_SCORE_INT_ROWS);
  const int64_t group = call.integer(KVT_DOT_SCORE_INT_GROUP);
  const int64_t count = call.integer(KVT_DOT_SCORE_INT_COUNT);
  const int64_t dim = call.integer(KVT_DOT_SCORE_INT_HEAD_DIM);
  const int64_t piece_vectors = call.integer(KVT_DOT_SCORE_INT_PIECE_VECTORS);
  const int64_t piece_stride = call.integer(KVT_DOT_SCORE_INT_PIECE_STRIDE);
  const int64_t piece_bytes = call.integer(KVT_DOT_SCORE_INT_PIECE_BYTES);
  if (rows < 1 || count < 1 || dim < 1 || piece_vectors < 1 || group < 1 || group > kMostGroup)
    return fail(KVT_INVALID, "dot-score: expected rows, count, headDim and pieceVectors 1 or more and group 1 to 32");
  const uint32_t* pieces = call.at<const uint32_t>(KVT_DOT_SCORE_REF_PIECES);
  const char* vectors = call.at<const char>(KVT_DOT_SCORE_REF_VECTORS);
  std::vector<float> queries(rows * group * dim);
  widen(call.at<const uint16_t>(KVT_DOT_SCORE_REF_QUERIES), rows * group * dim, queries.data());
  const ScoreRow out{call.at<float>(KVT_DOT_SCORE_REF_SCORES), group, call.integer(KVT_DOT_SCORE_INT_SCORE_STRIDE),
                     call.integer(KVT_DOT_SCORE_INT_REDUCE)};
  score_vectors(call.threads, queries, rows, count, dim, static_cast<float>(call.real(KVT_DOT_SCORE_REAL_SCALE)), out,
                [=](int64_t row, int64_t i) {
                  const int64_t piece = row * piece_stride + i / piece_vectors;
                  const int64_t place = pieces == nullptr ? piece : pieces[piece];
                  return reinterpret_cast<const uint16_t*>(vectors + place * piece_bytes) + i % piece_vectors * dim;
                });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_DOT_SCORE, dot_score);

}  // namespace
