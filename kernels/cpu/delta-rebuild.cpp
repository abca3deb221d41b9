// DeltaKV's rebuilding (calls/delta-rebuild.ts).
#include "delta.h"

namespace {

using namespace kvt;

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
  std::vector<float> up(latent_dim * width);
  widen(call.at<const uint16_t>(KVT_DELTA_REBUILD_REF_UP), latent_dim * width, up.data());
  call.threads.run(tokens, [&](int64_t from, int64_t to) {
    std::vector<float> row(width), z(latent_dim);
    for (int64_t i = from; i < to; i++) {
      const int64_t token = chosen[i];
      for (int64_t r = 0; r < latent_dim; r++) {
        const int64_t at = token * latent_dim + r;
        if (bits == 16) {
          z[r] = of_bf16(reinterpret_cast<const uint16_t*>(latents)[at]);
          continue;
        }
        const int code = latents[at / 2] >> (4 * (at & 1)) & 15;
        const uint16_t* scale = scales + at / kGroup * 2;
        z[r] = of_bf16(bf16_of(of_f16(scale[1]) + static_cast<float>(code) * of_f16(scale[0])));
      }
      references.mean(token, row.data());
      for (int64_t c = 0; c < width; c++)
        out[i * width + c] = bf16_of(row[c] + dot(up.data() + c * latent_dim, z.data(), latent_dim));
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_DELTA_REBUILD, delta_rebuild);

}  // namespace
