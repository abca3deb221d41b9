// KV of a tile of tokens in a warp's registers, and its turning into operands of the tensor cores. Lane (g, c) holds,
// of each 16 tokens, its share of the key rows g and g + 8 and of the value rows 2c, 2c + 1, 2c + 8, 2c + 9. Which
// channels that share is doesn't matter to a sum over channels: loads stay contiguous, queries follow (key_chunk).
#ifndef KVTIER_ATTEND_STORE_CUH
#define KVTIER_ATTEND_STORE_CUH

#include "../formats.h"
#include "mma.cuh"

namespace kvt {

// Where a token lies: its page, and its place there, `apart` behind one that others share.
struct Slot {
  const char* page;
  int place;
  int apart = 0;

  // Of rows of `bytes` that begin at `offset` of the page: the token's, from `within` on. What is shared comes first.
  __device__ __forceinline__ const char* row(int64_t offset, int bytes, int within) const {
    return page + offset + static_cast<uint64_t>(static_cast<uint32_t>(place)) * bytes + within + apart * bytes;
  }
};

// Run-time shape of the pages.
struct PageShape {
  int dim;
  int key_row;
  int value_row;
  int64_t values;
  int64_t key_scales;
  int64_t value_scales;
  // Coded pages: log2 of a group's tokens (keys by channel) and of its channels (values, keys by token).
  int key_group_shift;
  int value_group_shift;
  // Halves of a token's scales (by token).
  int key_scale_row;
  int value_scale_row;
};

// Not as constant (ld.global.nc): the call's own new rows may be among it.
template <int Bytes>
__device__ __forceinline__ void load_unit(uint32_t* to, const char* from) {
  static_assert(Bytes == 2 || Bytes == 4 || Bytes == 8 || Bytes == 16);
  if constexpr (Bytes == 16)
    asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "l"(from));
  else if constexpr (Bytes == 8)
    asm volatile("ld.global.L1::no_allocate.L2::128B.v2.u32 {%0,%1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(from));
  else if constexpr (Bytes == 4)
    asm volatile("ld.global.L1::no_allocate.L2::128B.u32 %0, [%1];" : "=r"(to[0]) : "l"(from));
  else {
    uint16_t half;
    asm volatile("ld.global.L1::no_allocate.L2::128B.u16 %0, [%1];" : "=h"(half) : "l"(from));
    to[0] = half;
  }
}

// Pages of 2-byte numbers. `Dim` is the head dimension, or (Exact false) the next larger one that is instantiated.
template <typename Number, int Dim, bool Exact>
struct RawStore {
  using T = Number;
  static constexpr int kDim = Dim;
  static constexpr int kTiles = 1;
  // Whether keys() needs the tokens' places again, and whether a tile lies in one page.
  static constexpr bool kSlots = false;
  static constexpr bool kOnePage = false;
  // Whether scales of keys may go into the queries.
  static constexpr bool kFolds = false;
  // Whether attend-ahead.cuh fetches its first pages, and whether a call may bring new rows (attend-append.cuh).
  static constexpr bool kAhead = true;
  static constexpr bool kAppends = true;
  // Whether tiles come through shared memory (attend-stages.cuh).
  static constexpr bool kStaged = false;
  static constexpr int kTileBytes = 0;
  struct Places {};
  static __device__ Places places_of(int) { return {}; }
  static constexpr int kKeyChunks = Dim / 32;
  static constexpr int kValueChunks = Dim / 64;
  uint32_t k[2][kKeyChunks][4];
  uint32_t v[4][kValueChunks][4];

  static __device__ int key_chunk(int i, int c) { return 4 * i + c; }
  static __device__ int value_chunk(int h, int g) { return 8 * h + g; }
  static __device__ bool has(int chunk, const PageShape& shape) { return Exact || 8 * chunk < shape.dim; }

  __device__ __forceinline__ void load_keys(int, const Slot (&slots)[2], int c, const PageShape& shape) {
#pragma unroll
    for (int s = 0; s < 2; s++) {
      const char* row = slots[s].page + slots[s].place * shape.key_row;
#pragma unroll
      for (int i = 0; i < kKeyChunks; i++)
        if (has(key_chunk(i, c), shape)) load_unit<16>(k[s][i], row + 16 * key_chunk(i, c));
        else k[s][i][0] = k[s][i][1] = k[s][i][2] = k[s][i][3] = 0;
    }
  }
  __device__ __forceinline__ void load_values(int, const Slot (&slots)[4], int g, const PageShape& shape) {
#pragma unroll
    for (int s = 0; s < 4; s++) {
      const char* row = slots[s].page + shape.values + slots[s].place * shape.value_row;
#pragma unroll
      for (int h = 0; h < kValueChunks; h++)
        if (has(value_chunk(h, g), shape)) load_unit<16>(v[s][h], row + 16 * value_chunk(h, g));
        else v[s][h][0] = v[s][h][1] = v[s][h][2] = v[s][h][3] = 0;
    }
  }
  // Pairs of channels (0, 1), (2, 3), (4, 5), (6, 7) of the lane's i-th chunk of key row s.
  template <bool Scaled>
  __device__ __forceinline__ void keys(int, int s, int i, const Slot&, int, const PageShape&,
                                       uint32_t (&out)[4]) const {
#pragma unroll
    for (int w = 0; w < 4; w++) out[w] = k[s][i][w];
  }
  // Of chunk h: pairs of tokens (2s, 2s + 1 of the lane's four) for channel e = 0 to 7.
  __device__ __forceinline__ void values(int, int pair, int h, const PageShape&, uint32_t (&out)[8]) const {
#pragma unroll
    for (int w = 0; w < 4; w++) {
      out[2 * w] = __byte_perm(v[2 * pair][h][w], v[2 * pair + 1][h][w], 0x5410);
      out[2 * w + 1] = __byte_perm(v[2 * pair][h][w], v[2 * pair + 1][h][w], 0x7632);
    }
  }
};

}  // namespace kvt
#endif
