// DeltaKV's rebuilding (calls/delta-rebuild.ts).
#include "delta.h"
#include "products.h"

namespace {

using namespace kvt;

// Coordinates of a token, rounded as the product takes them.
void read_latents(const uint8_t* latents, const uint16_t* scales, int64_t token, int64_t count, int64_t bits, float* z) {
  if (bits == 16) return widen(reinterpret_cast<const uint16_t*>(latents) + token * count, count, z);
  for (int64_t first = 0; first < count; first += kGroup) {
    const uint8_t* codes = latents + (token * count + first) / 2;
    const uint16_t* pair = scales + (token * count + first) / kGroup * 2;
    const float scale = of_f16(pair[0]), least = of_f16(pair[1]);
    for (int64_t i = 0; i < kGroup; i++) z[first + i] = static_cast<float>(codes[i / 2] >> (4 * (i & 1)) & 15);
    for (int64_t i = 0; i < kGroup; i++) z[first + i] = of_bf16(bf16_of(least + z[first + i] * scale));
  }
}

kvt_status delta_rebuild(const CpuCall& call) {
  const int64_t tokens = call.integer(KVT_DELTA_REBUILD_INT_TOKENS);
  const int64_t width = call.integer(KVT_DELTA_REBUILD_INT_WIDTH);
  const int64_t latent_dim = call.integer(KVT_DELTA_REBUILD_INT_LATENT_DIM);
  const int64_t neighbours = call.integer(KVT_DELTA_REBUILD_INT_NEIGHBOURS);
  const int64_t bits = call.integer(KVT_DELTA_REBUILD_INT_BITS);
  const uint16_t* scales = call.at<const uint16_t>(KVT_DELTA_REBUILD_REF_SCALES);
  if (const kvt_status status =
          check_delta("delta-rebuild", tokens, width, latent_dim, neighbours, bits, scales != nullptr))
    return status;
  const uint32_t* chosen = call.at<const uint32_t>(KVT_DELTA_REBUILD_REF_CHOSEN);
  const uint8_t* latents = call.at<const uint8_t>(KVT_DELTA_REBUILD_REF_LATENTS);
  uint16_t* out = call.at<uint16_t>(KVT_DELTA_REBUILD_REF_OUT);
  const References references{call.at<const uint16_t>(KVT_DELTA_REBUILD_REF_REFERENCES),
                              call.at<const uint32_t>(KVT_DELTA_REBUILD_REF_NEAR), width, neighbours};
  const uint16_t* up = call.at<const uint16_t>(KVT_DELTA_REBUILD_REF_UP);
  const Pieces pieces(tokens, width, latent_dim, call.threads.count());
  call.threads.run(pieces.count(), [&](int64_t from, int64_t to) {
    Columns columns(latent_dim);
    std::vector<float> z(pieces.block * columns.width()), sums(pieces.block * pieces.band), row(pieces.band);
    for (int64_t piece = from; piece < to; piece++) {
      const int64_t first = pieces.row(piece), count = pieces.row_end(piece) - first;
      const int64_t left = pieces.column(piece), right = pieces.column_end(piece);
      for (int64_t i = 0; i < count; i++)
        read_latents(latents, scales, chosen[first + i], latent_dim, bits, z.data() + i * columns.width());
      columns.multiply(z.data(), count, up + left * latent_dim, right - left, sums.data(), pieces.band);
      for (int64_t i = 0; i < count; i++) {
        references.mean(chosen[first + i], left, right, row.data());
        uint16_t* to_row = out + (first + i) * width + left;
        for (int64_t c = 0; c < right - left; c++) to_row[c] = bf16_of(row[c] + sums[i * pieces.band + c]);
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_DELTA_REBUILD, delta_rebuild);

}  // namespace
