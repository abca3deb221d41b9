// DeltaKV's residuals (calls/delta-encode.ts).
#include <cmath>

#include "delta.h"

namespace {

using namespace kvt;

// Codes of a group: scale and minimum in half precision, as they are stored.
void quantise(const float* values, uint8_t* codes, uint16_t* scales) {
  const auto [least, most] = std::minmax_element(values, values + kGroup);
  scales[0] = f16_of((*most - *least) / 15);
  scales[1] = f16_of(*least);
  const float scale = of_f16(scales[0]);
  const float offset = of_f16(scales[1]);
  for (int64_t i = 0; i < kGroup; i++) {
    const float code = scale == 0 ? 0 : std::min(15.0f, std::max(0.0f, std::floor((values[i] - offset) / scale + 0.5f)));
    const auto bits = static_cast<uint8_t>(code);
    codes[i / 2] = static_cast<uint8_t>(i % 2 == 0 ? bits : codes[i / 2] | bits << 4);
  }
}

kvt_status delta_encode(const CpuCall& call) {
  const int64_t tokens = call.integer(KVT_DELTA_ENCODE_INT_TOKENS);
  const int64_t width = call.integer(KVT_DELTA_ENCODE_INT_WIDTH);
  const int64_t latent_dim = call.integer(KVT_DELTA_ENCODE_INT_LATENT_DIM);
  const int64_t neighbours = call.integer(KVT_DELTA_ENCODE_INT_NEIGHBOURS);
  const int64_t bits = call.integer(KVT_DELTA_ENCODE_INT_BITS);
  uint16_t* scales = call.at<uint16_t>(KVT_DELTA_ENCODE_REF_SCALES);
  if (const kvt_status status =
          check_delta("delta-encode", tokens, width, latent_dim, neighbours, bits, scales != nullptr))
    return status;
  const uint16_t* rows = call.at<const uint16_t>(KVT_DELTA_ENCODE_REF_ROWS);
  uint8_t* latents = call.at<uint8_t>(KVT_DELTA_ENCODE_REF_LATENTS);
  const References references{call.at<const uint16_t>(KVT_DELTA_ENCODE_REF_REFERENCES),
                              call.at<const uint32_t>(KVT_DELTA_ENCODE_REF_NEAR), width, neighbours};
  std::vector<float> down(latent_dim * width);
  widen(call.at<const uint16_t>(KVT_DELTA_ENCODE_REF_DOWN), latent_dim * width, down.data());
  call.threads.run(tokens, [&](int64_t from, int64_t to) {
    std::vector<float> residual(width), z(latent_dim);
    for (int64_t token = from; token < to; token++) {
      references.mean(token, 0, width, residual.data());
      for (int64_t c = 0; c < width; c++)
        residual[c] = of_bf16(bf16_of(of_bf16(rows[token * width + c]) - residual[c]));
      for (int64_t r = 0; r < latent_dim; r++) z[r] = dot(down.data() + r * width, residual.data(), width);
      for (int64_t r = 0; r < latent_dim && bits == 16; r++)
        reinterpret_cast<uint16_t*>(latents)[token * latent_dim + r] = bf16_of(z[r]);
      for (int64_t r = 0; r < latent_dim && bits == 4; r += kGroup)
        quantise(z.data() + r, latents + (token * latent_dim + r) / 2, scales + (token * latent_dim + r) / kGroup * 2);
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_DELTA_ENCODE, delta_encode);

}  // namespace
