// What DeltaKV's kernels on the processor share (delta.ts).
#ifndef KVTIER_CPU_DELTA_H
#define KVTIER_CPU_DELTA_H

#include "row-scores.h"

namespace kvt {
namespace {

constexpr int64_t kGroup = 32;  // coordinates that share a scale and a minimum
constexpr uint32_t kNoReference = 0xffffffffu;

struct References {
  const uint16_t* rows;  // [., width]
  const uint32_t* near;  // [tokens, neighbours]
  int64_t width, neighbours;

  // Numbers [from, to) of the mean of a token's references; zero where it has none.
  void mean(int64_t token, int64_t from, int64_t to, float* out) const {
    std::fill(out, out + (to - from), 0.0f);
    int found = 0;
    for (int64_t n = 0; n < neighbours; n++) {
      const uint32_t at = near[token * neighbours + n];
      if (at == kNoReference) continue;
      found++;
      for (int64_t c = from; c < to; c++) out[c - from] += of_bf16(rows[at * width + c]);
    }
    for (int64_t c = 0; c < to - from && found > 0; c++) out[c] /= static_cast<float>(found);
  }
};

inline kvt_status check_delta(const char* kernel, int64_t tokens, int64_t width, int64_t latents, int64_t neighbours,
                              int64_t bits, bool scales) {
  if (tokens < 1 || width < 1 || latents < kGroup || latents % kGroup != 0 || neighbours < 1)
    return fail(KVT_INVALID, "%s: expected tokens, width and neighbours 1 or more, latentDim a multiple of 32", kernel);
  if ((bits != 4 && bits != 16) || (bits == 4 && !scales))
    return fail(KVT_INVALID, "%s: expected bits 16, or 4 with scales", kernel);
  return KVT_OK;
}

}  // namespace
}  // namespace kvt

#endif
