// Collision scores of keys (calls/paris-collide.ts).
#include "paris.h"

namespace {

using namespace kvt;

kvt_status paris_collide(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_PARIS_COLLIDE_INT_ROWS);
  const int64_t tokens = call.integer(KVT_PARIS_COLLIDE_INT_TOKENS);
  const int64_t subspaces = call.integer(KVT_PARIS_COLLIDE_INT_SUBSPACES);
  const int64_t token_stride = call.integer(KVT_PARIS_COLLIDE_INT_TOKEN_STRIDE);
  const int64_t score_stride = call.integer(KVT_PARIS_COLLIDE_INT_SCORE_STRIDE);
  if (rows < 1 || tokens < 1 || subspaces < 1)
    return fail(KVT_INVALID, "paris-collide: expected rows, tokens and subspaces 1 or more");
  const uint8_t* ids = call.at<const uint8_t>(KVT_PARIS_COLLIDE_REF_IDS);
  const uint8_t* tiers = call.at<const uint8_t>(KVT_PARIS_COLLIDE_REF_TIERS);
  uint16_t* collisions = call.at<uint16_t>(KVT_PARIS_COLLIDE_REF_COLLISIONS);
  call.threads.run(rows * tokens, [&](int64_t from, int64_t to) {
    for (int64_t at = from; at < to; at++) {
      const int64_t row = at / tokens;
      const int64_t token = at % tokens;
      const uint8_t* own = ids + (row * token_stride + token) * subspaces;
      const uint8_t* of_row = tiers + row * subspaces * kPatterns;
      unsigned score = 0;
      for (int64_t b = 0; b < subspaces; b++) score += of_row[b * kPatterns + own[b]];
      collisions[row * score_stride + token] = static_cast<uint16_t>(score);
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_PARIS_COLLIDE, paris_collide);

}  // namespace
