// Products of a group's queries with rows that stand for tokens (calls/dot-score.ts).
#include "row-products.h"

namespace {

using namespace kvt;

kvt_status dot_score(const CudaCall& call) {
  RowProducts p{};
  p.queries = call.at<const uint16_t>(KVT_DOT_SCORE_REF_QUERIES);
  p.vectors = {call.at<const uint8_t>(KVT_DOT_SCORE_REF_VECTORS), call.at<const uint32_t>(KVT_DOT_SCORE_REF_PIECES),
               call.integer(KVT_DOT_SCORE_INT_PIECE_VECTORS), call.integer(KVT_DOT_SCORE_INT_PIECE_STRIDE),
               call.integer(KVT_DOT_SCORE_INT_PIECE_BYTES)};
  p.scores = call.at<float>(KVT_DOT_SCORE_REF_SCORES);
  p.count = call.integer(KVT_DOT_SCORE_INT_COUNT);
  p.score_stride = call.integer(KVT_DOT_SCORE_INT_SCORE_STRIDE);
  p.group = static_cast<int>(call.integer(KVT_DOT_SCORE_INT_GROUP));
  p.dim = static_cast<int>(call.integer(KVT_DOT_SCORE_INT_HEAD_DIM));
  p.width = p.dim;
  p.reduce = static_cast<int>(call.integer(KVT_DOT_SCORE_INT_REDUCE));
  p.scale = static_cast<float>(call.real(KVT_DOT_SCORE_REAL_SCALE));
  return score_rows(call, "dot-score", p, call.integer(KVT_DOT_SCORE_INT_ROWS));
}

KVT_CUDA_KERNEL(KVT_DOT_SCORE, dot_score);

}  // namespace
