// Sign hashes (calls/lsh-hash.ts).
#include "pieces.h"
#include "row-scores.h"

namespace {

using namespace kvt;

kvt_status lsh_hash(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_LSH_HASH_INT_ROWS);
  const int64_t count = call.integer(KVT_LSH_HASH_INT_COUNT);
  const int64_t dim = call.integer(KVT_LSH_HASH_INT_HEAD_DIM);
  const int64_t tables = call.integer(KVT_LSH_HASH_INT_TABLES);
  const int64_t hashes = call.integer(KVT_LSH_HASH_INT_HASHES);
  const int64_t code_stride = call.integer(KVT_LSH_HASH_INT_CODE_STRIDE);
  const Pieces vectors{call.at<const char>(KVT_LSH_HASH_REF_VECTORS), call.at<const uint32_t>(KVT_LSH_HASH_REF_PIECES),
                       call.integer(KVT_LSH_HASH_INT_PIECE_VECTORS), call.integer(KVT_LSH_HASH_INT_PIECE_STRIDE),
                       call.integer(KVT_LSH_HASH_INT_PIECE_BYTES)};
  if (rows < 1 || count < 1 || dim < 1 || tables < 1 || hashes < 1 || hashes > 16 || vectors.vectors < 1)
    return fail(KVT_INVALID, "lsh-hash: expected rows, count, headDim, tables, pieceVectors 1 or more, hashes 1 to 16");
  std::vector<float> projections(tables * hashes * dim);
  widen(call.at<const uint16_t>(KVT_LSH_HASH_REF_PROJECTIONS), tables * hashes * dim, projections.data());
  const float* offsets = call.at<const float>(KVT_LSH_HASH_REF_OFFSETS);
  uint16_t* codes = call.at<uint16_t>(KVT_LSH_HASH_REF_CODES);
  call.threads.run(rows * count, [&](int64_t from, int64_t to) {
    std::vector<float> vector(dim);
    for (int64_t at = from; at < to; at++) {
      const int64_t row = at / count;
      widen(vectors.at(row, at % count, dim), dim, vector.data());
      for (int64_t table = 0; table < tables; table++) {
        unsigned code = 0;
        for (int64_t h = 0; h < hashes; h++) {
          const int64_t projection = table * hashes + h;
          const float offset = offsets == nullptr ? 0 : offsets[row * tables * hashes + projection];
          code |= static_cast<unsigned>(dot(projections.data() + projection * dim, vector.data(), dim) > offset) << h;
        }
        codes[(row * tables + table) * code_stride + at % count] = static_cast<uint16_t>(code);
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_LSH_HASH, lsh_hash);

}  // namespace
