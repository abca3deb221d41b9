// Codes of keys: the nearest centroid in each subspace (calls/pq-assign.ts).
#include <cmath>

#include "pieces.h"
#include "row-scores.h"

namespace {

using namespace kvt;

kvt_status pq_assign(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_PQ_ASSIGN_INT_ROWS);
  const int64_t first = call.integer(KVT_PQ_ASSIGN_INT_FROM);
  const int64_t last = call.integer(KVT_PQ_ASSIGN_INT_TO);
  const int64_t dim = call.integer(KVT_PQ_ASSIGN_INT_HEAD_DIM);
  const int64_t subspaces = call.integer(KVT_PQ_ASSIGN_INT_SUBSPACES);
  const int64_t centroids = call.integer(KVT_PQ_ASSIGN_INT_CENTROIDS);
  const int64_t token_stride = call.integer(KVT_PQ_ASSIGN_INT_TOKEN_STRIDE);
  const Pieces keys{call.at<const char>(KVT_PQ_ASSIGN_REF_KEYS), call.at<const uint32_t>(KVT_PQ_ASSIGN_REF_PIECES),
                    call.integer(KVT_PQ_ASSIGN_INT_PIECE_VECTORS), call.integer(KVT_PQ_ASSIGN_INT_PIECE_STRIDE),
                    call.integer(KVT_PQ_ASSIGN_INT_PIECE_BYTES)};
  if (rows < 1 || first < 0 || last <= first || keys.vectors < 1)
    return fail(KVT_INVALID, "pq-assign: expected rows and pieceVectors 1 or more and 0 <= from < to");
  if (centroids < 1 || centroids > 256 || subspaces < 1 || dim % subspaces != 0)
    return fail(KVT_INVALID, "pq-assign: expected centroids 1 to 256, and subspaces that divide headDim");
  const float* books = call.at<const float>(KVT_PQ_ASSIGN_REF_BOOKS);
  uint8_t* codes = call.at<uint8_t>(KVT_PQ_ASSIGN_REF_CODES);
  const int64_t channels = dim / subspaces;
  std::vector<float> halves(rows * subspaces * centroids);  // half the squared length of each centroid
  for (size_t at = 0; at < halves.size(); at++)
    halves[at] = dot(books + at * channels, books + at * channels, channels) / 2;
  const int64_t count = last - first;
  call.threads.run(rows * count, [&](int64_t from, int64_t to) {
    std::vector<float> key(dim);
    for (int64_t at = from; at < to; at++) {
      const int64_t row = at / count;
      const int64_t token = first + at % count;
      widen(keys.at(row, token, dim), dim, key.data());
      for (int64_t s = 0; s < subspaces; s++) {
        const int64_t book = (row * subspaces + s) * centroids;
        float best = -INFINITY;
        for (int64_t centroid = 0; centroid < centroids; centroid++) {
          const float score =
              dot(key.data() + s * channels, books + (book + centroid) * channels, channels) - halves[book + centroid];
          if (score <= best) continue;
          best = score;
          codes[(row * token_stride + token) * subspaces + s] = static_cast<uint8_t>(centroid);
        }
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_PQ_ASSIGN, pq_assign);

}  // namespace
