// Logits that attention leaves beside its output, for policies that choose by them (calls/attend.ts).
#ifndef KVTIER_ATTEND_LOGITS_CUH
#define KVTIER_ATTEND_LOGITS_CUH

#include "attend-split.cuh"

namespace kvt {

// A store of KV whose attention leaves its logits.
template <typename Store>
struct WithLogits : Store {};

template <typename Store>
constexpr bool kLeavesLogits = false;
template <typename Store>
constexpr bool kLeavesLogits<WithLogits<Store>> = true;

// Logits of a warp's tile, which begins at token `now.flat` of the line: lane (g, c) holds tokens g and g + 8 of each 16 for
// the heads 2c and 2c + 1 of each 8. Unless all heads read all tokens, `reads` says which do.
template <typename Stretch, int Tiles, int HeadTiles>
__device__ __forceinline__ void leave_logits(const AttendArguments& a, const Stretch& now, uint32_t first_head, bool all,
                                             const uint32_t (&reads)[Tiles][2],
                                             const float (&s)[Tiles][HeadTiles][4]) {
  constexpr float kOfLog2 = 0.693147180559945f;
  const uint32_t g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
  const uint32_t first = __ldg(a.offsets + now.row) * a.page_tokens;
  const uint32_t span = __ldg(a.offsets + now.row + 1) * a.page_tokens - first;
  float* const row = a.logits + static_cast<uint64_t>(first) * a.group + (now.flat - first) + g;
#pragma unroll
  for (int t = 0; t < Tiles; t++)
#pragma unroll
    for (int ht = 0; ht < HeadTiles; ht++)
#pragma unroll
      for (int x = 0; x < 4; x++) {
        const uint32_t head = 8 * ht + 2 * c + x % 2;
        if (first_head + head < static_cast<uint32_t>(a.group) && (all || (reads[t][x / 2] >> head & 1) != 0))
          row[static_cast<uint64_t>(first_head + head) * span + 16 * t + x / 2 * 8] = s[t][ht][x] * a.scale_log2 * kOfLog2;
      }
}

}  // namespace kvt
#endif
