// ShadowKV's rebuilding of keys (calls/low-rank-rebuild.ts).
#include <vector>

#include "row-scores.h"

namespace {

using namespace kvt;

kvt_status low_rank_rebuild(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_LOW_RANK_REBUILD_INT_ROWS);
  const int64_t kv_heads = call.integer(KVT_LOW_RANK_REBUILD_INT_KV_HEADS);
  const int64_t count = call.integer(KVT_LOW_RANK_REBUILD_INT_COUNT);
  const int64_t tokens = call.integer(KVT_LOW_RANK_REBUILD_INT_TOKENS);
  const int64_t dim = call.integer(KVT_LOW_RANK_REBUILD_INT_HEAD_DIM);
  const int64_t rank = call.integer(KVT_LOW_RANK_REBUILD_INT_RANK);
  if (rows < 1 || kv_heads < 1 || rows % kv_heads != 0 || count < 1 || tokens < 1 || dim < 8 || dim % 8 != 0 || rank < 1)
    return fail(KVT_INVALID, "low-rank-rebuild: expected rows of whole sequences, count, tokens and rank 1 or more, and "
                             "headDim a multiple of 8");
  const auto* chosen = call.at<const uint32_t>(KVT_LOW_RANK_REBUILD_REF_CHOSEN);
  const auto* factors = call.at<const uint16_t>(KVT_LOW_RANK_REBUILD_REF_FACTORS);
  const auto* turns = call.at<const uint16_t>(KVT_LOW_RANK_REBUILD_REF_TURNS);
  auto* out = call.at<uint16_t>(KVT_LOW_RANK_REBUILD_REF_OUT);
  const auto* given = call.at<const uint16_t>(KVT_LOW_RANK_REBUILD_REF_DIRECTIONS);
  for (int64_t i = 0; i < rows * count; i++)
    if (chosen[i] >= tokens)
      return fail(KVT_INVALID, "low-rank-rebuild: entry %lld is token %u of %lld", static_cast<long long>(i), chosen[i],
                  static_cast<long long>(tokens));
  std::vector<float> directions(rows * dim * rank);
  call.threads.run(rows * dim, [&](int64_t from, int64_t to) {
    widen(given + from * rank, (to - from) * rank, directions.data() + from * rank);
  });
  call.threads.run(rows * count, [&](int64_t from, int64_t to) {
    std::vector<float> z(rank), key(dim), turn(dim);
    const int64_t half = dim / 2;
    for (int64_t i = from; i < to; i++) {
      const int64_t row = i / count, token = chosen[i];
      widen(factors + (row / kv_heads * tokens + token) * rank, rank, z.data());
      widen(turns + token * dim, dim, turn.data());
      for (int64_t c = 0; c < dim; c++) key[c] = dot(directions.data() + (row * dim + c) * rank, z.data(), rank);
      for (int64_t c = 0; c < half; c++) {
        const float cosine = turn[c], sine = turn[half + c];
        out[i * dim + c] = bf16_of(key[c] * cosine - key[half + c] * sine);
        out[i * dim + half + c] = bf16_of(key[half + c] * cosine + key[c] * sine);
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_LOW_RANK_REBUILD, low_rank_rebuild);

}  // namespace
