// A warp's queries as operands of the tensor cores: lane (g, c) has, of head g of each 8, the channels that it has of the
// keys. Where registers can't hold them, each lane keeps its own in shared memory.
#ifndef KVTIER_ATTEND_QUERIES_CUH
#define KVTIER_ATTEND_QUERIES_CUH

#include "attend-split.cuh"

namespace kvt {

template <typename T>
__device__ __forceinline__ uint32_t query_pair(uint32_t pair, int f16) {
  if (std::is_same_v<T, F16> == (f16 != 0)) return pair;
  return f16 ? T::pack(F16::low(pair), F16::high(pair)) : T::pack(Bf16::low(pair), Bf16::high(pair));
}

template <typename Store, int HeadTiles, int Warps>
struct Queries {
  using T = typename Store::T;
  static constexpr int kChunks = Store::kDim / 32;
  static constexpr bool kShared = Store::kDim > 128;
  static constexpr size_t kSharedBytes = kShared ? sizeof(uint4) * HeadTiles * kChunks * 32 * Warps : 0;
  uint32_t held[HeadTiles][kShared ? 1 : kChunks][4];
  uint4* const kept;  // of the block, 16-byte aligned

  __device__ explicit Queries(float* memory) : kept(reinterpret_cast<uint4*>(memory)) {}

  __device__ __forceinline__ void load(const AttendArguments& a, uint32_t row, int first_head, int g, int c) {
#pragma unroll
    for (int ht = 0; ht < HeadTiles; ht++) {
      const int head = first_head + 8 * ht + g;
      const uint16_t* from = a.q + (static_cast<int64_t>(row) * a.group + head) * a.shape.dim;
#pragma unroll
      for (int i = 0; i < kChunks; i++) {
        const int chunk = Store::key_chunk(i, c);
        uint4 words = {0, 0, 0, 0};
        if (head < a.group && Store::has(chunk, a.shape)) words = *reinterpret_cast<const uint4*>(from + 8 * chunk);
        words = {query_pair<T>(words.x, a.q_f16), query_pair<T>(words.y, a.q_f16), query_pair<T>(words.z, a.q_f16),
                 query_pair<T>(words.w, a.q_f16)};
        if constexpr (Store::kFolds) {
          // Zero, which only the call knows: words that are operands in other pairs need not keep the registers' order of
          // the load, or each tile would move them.
          const uint32_t nothing = a.q_f16 >> 1;
          words = {words.x ^ nothing, words.y ^ nothing, words.z ^ nothing, words.w ^ nothing};
        }
        if constexpr (kShared) *place(ht, i) = words;
        else held[ht][i][0] = words.x, held[ht][i][1] = words.y, held[ht][i][2] = words.z, held[ht][i][3] = words.w;
      }
    }
  }
  __device__ __forceinline__ void at(int ht, int i, uint32_t (&to)[4]) const {
    if constexpr (kShared) {
      const uint4 words = *place(ht, i);
      to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
    } else
#pragma unroll
      for (int w = 0; w < 4; w++) to[w] = held[ht][i][w];
  }

 private:
  __device__ __forceinline__ uint4* place(int ht, int i) const {
    return kept + (ht * kChunks + i) * 32 * Warps + threadIdx.x;
  }
};

}  // namespace kvt
#endif
