// ShadowKV's rebuilding of keys (calls/low-rank-rebuild.ts).
#include <vector>

#include "products.h"

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
  const auto* directions = call.at<const uint16_t>(KVT_LOW_RANK_REBUILD_REF_DIRECTIONS);
  for (int64_t i = 0; i < rows * count; i++)
    if (chosen[i] >= tokens)
      return fail(KVT_INVALID, "low-rank-rebuild: entry %lld is token %u of %lld", static_cast<long long>(i), chosen[i],
                  static_cast<long long>(tokens));
  // Tokens of a row at a time, which meet all of its directions: a key is turned whole.
  const int64_t block = Pieces(count, dim, rank, call.threads.count()).block, blocks = (count + block - 1) / block;
  call.threads.run(rows * blocks, [&](int64_t from, int64_t to) {
    Columns columns(rank);
    std::vector<float> z(block * columns.width()), keys(block * dim), turn(dim);
    const int64_t half = dim / 2;
    for (int64_t piece = from; piece < to; piece++) {
      const int64_t row = piece / blocks, first = row * count + piece % blocks * block;
      const int64_t tokens_here = std::min(block, (row + 1) * count - first);
      for (int64_t i = 0; i < tokens_here; i++)
        widen(factors + (row / kv_heads * tokens + chosen[first + i]) * rank, rank, z.data() + i * columns.width());
      columns.multiply(z.data(), tokens_here, directions + row * dim * rank, dim, keys.data(), dim);
      for (int64_t i = 0; i < tokens_here; i++) {
        const float* key = keys.data() + i * dim;
        uint16_t* to_key = out + (first + i) * dim;
        widen(turns + chosen[first + i] * dim, dim, turn.data());
        for (int64_t c = 0; c < half; c++) {
          const float cosine = turn[c], sine = turn[half + c];
          to_key[c] = bf16_of(key[c] * cosine - key[half + c] * sine);
          to_key[half + c] = bf16_of(key[half + c] * cosine + key[c] * sine);
        }
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_LOW_RANK_REBUILD, low_rank_rebuild);

}  // namespace
