// Online softmax of a warp's tiles: logits to weights, and what sums are relative to (arXiv 1805.02867). Lane (g, c) holds
// tokens g and g + 8 of each 16, for the query heads 2c and 2c + 1 of each 8.
#ifndef KVTIER_ATTEND_WEIGHTS_CUH
#define KVTIER_ATTEND_WEIGHTS_CUH

#include "mma.cuh"

namespace kvt {

// A maximum may grow by this much (log2) before sums are scaled to it: weights stay under 2^8.
constexpr float kLazyGrowth = 8;

// Over the lanes that hold other tokens of the same heads.
template <bool Max>
__device__ __forceinline__ float across_tokens(float x) {
#pragma unroll
  for (int apart = 4; apart < 32; apart *= 2) {
    const float other = __shfl_xor_sync(~0u, x, apart);
    x = Max ? fmaxf(x, other) : x + other;
  }
  return x;
}

// Tiles of 16 tokens at once; o [HeadTiles][Columns][4] are the sums of weighted values, heads as in the logits.
template <int Tiles, int HeadTiles, int Columns>
struct Weights {
  // What sums are scaled to, the lane's true maximum, and its sum of weights.
  float base[HeadTiles][2], most[HeadTiles][2], sum[HeadTiles][2];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int ht = 0; ht < HeadTiles; ht++)
#pragma unroll
      for (int j = 0; j < 2; j++) {
        base[ht][j] = most[ht][j] = -INFINITY;
        sum[ht][j] = 0;
      }
  }

  // Logits to weights exp2(logit * scale - base), in place. Unless all heads read all tokens, bit h of reads[t][half] says
  // whether head h reads the token.
  __device__ __forceinline__ void weigh(float (&s)[Tiles][HeadTiles][4], bool all, const uint32_t (&reads)[Tiles][2],
                                        int c, float scale, float (&o)[HeadTiles][Columns][4]) {
    if (!all) {
#pragma unroll
      for (int t = 0; t < Tiles; t++)
#pragma unroll
        for (int ht = 0; ht < HeadTiles; ht++)
#pragma unroll
          for (int x = 0; x < 4; x++)
            if (!(reads[t][x / 2] >> (8 * ht + 2 * c + x % 2) & 1)) s[t][ht][x] = -INFINITY;
    }
    float tile_most[HeadTiles][2];
    bool grows = false;
#pragma unroll
    for (int ht = 0; ht < HeadTiles; ht++)
#pragma unroll
      for (int j = 0; j < 2; j++) {
        float top = 0;
#pragma unroll
        for (int t = 0; t < Tiles; t++)
#pragma unroll
          for (int half = 0; half < 2; half++) {
            float& x = s[t][ht][2 * half + j];
            x *= scale;
            top = t + half == 0 ? x : fmaxf(top, x);
          }
        tile_most[ht][j] = top;
        most[ht][j] = fmaxf(most[ht][j], top);
        grows |= top > base[ht][j] + kLazyGrowth;
      }
    if (__any_sync(~0u, grows)) rebase(tile_most, o);
#pragma unroll
    for (int ht = 0; ht < HeadTiles; ht++)
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const float shift = base[ht][j] == -INFINITY ? 0 : base[ht][j];
#pragma unroll
        for (int t = 0; t < Tiles; t++)
#pragma unroll
          for (int half = 0; half < 2; half++) {
            float& x = s[t][ht][2 * half + j];
            x = exp2_fast(x - shift);
            sum[ht][j] += x;
          }
      }
  }

  // How a sum relative to the lane's base becomes one relative to `top`.
  __device__ __forceinline__ float factor(int ht, int j, float top) const {
    return base[ht][j] == -INFINITY ? 0 : exp2_fast(base[ht][j] - top);
  }

 private:
  __device__ __forceinline__ void rebase(const float (&tile_most)[HeadTiles][2], float (&o)[HeadTiles][Columns][4]) {
#pragma unroll
    for (int ht = 0; ht < HeadTiles; ht++) {
      float by[2];
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const float top = fmaxf(base[ht][j], across_tokens<true>(tile_most[ht][j]));
        by[j] = top == base[ht][j] ? 1 : exp2_fast(base[ht][j] - top);
        base[ht][j] = top;
        sum[ht][j] *= by[j];
      }
#pragma unroll
      for (int m = 0; m < Columns; m++)
#pragma unroll
        for (int j = 0; j < 4; j++) o[ht][m][j] *= by[j % 2];
    }
  }
};

}  // namespace kvt
#endif
