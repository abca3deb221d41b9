// Tiles of coded pages on their way through shared memory: each warp has a ring of its own, asks for the tile two after the
// one that it attends to, and reads it when its turn comes.
// Source: PTX ISA, cp.async.
#ifndef KVTIER_ATTEND_STAGES_CUH
#define KVTIER_ATTEND_STAGES_CUH

#include "attend-store.cuh"

namespace kvt {

__device__ __forceinline__ uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}

// A number that is to be held in a register and not found anew.
__device__ __forceinline__ void keep(uint32_t& x) { asm volatile("" : "+r"(x)); }

template <int Bytes>
__device__ __forceinline__ void read_shared(uint32_t* to, uint32_t from) {
  static_assert(Bytes == 2 || Bytes == 4 || Bytes == 8 || Bytes == 16);
  if constexpr (Bytes == 16)
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from));
  else if constexpr (Bytes == 8)
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "r"(from));
  else if constexpr (Bytes == 4) asm volatile("ld.shared.u32 %0, [%1];" : "=r"(to[0]) : "r"(from));
  else {
    uint16_t half;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(half) : "r"(from));
    to[0] = half;
  }
}

// Copies `Bytes` that lie one behind the other, 16 a lane at a time; `from` is where the lane's first stand.
template <int Bytes>
__device__ __forceinline__ void copy_ahead(uint32_t to, const char* from, int lane) {
  static_assert(Bytes % 16 == 0);
#pragma unroll
  for (int at = 0; at < Bytes; at += 512)
    if (at + 512 <= Bytes || 16 * lane < Bytes - at)
      asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to + at + 16 * lane),
                   "l"(from + at)
                   : "memory");
}

// A warp's ring; nothing where tiles don't go through shared memory.
template <typename Store, int Warps>
struct Stages {
  static constexpr int kStages = 3;
  static constexpr int kTileBytes = Store::kTileBytes;
  static constexpr size_t kBytes = static_cast<size_t>(Warps) * kStages * kTileBytes;
  uint32_t first;
  // Where in a tile the lane's first key, value and scales of both lie.
  typename Store::Places places;
  // Places of the tile being attended to, and of the one to be asked for next.
  uint32_t read = 0, ask = 0;

  __device__ Stages(const void* shared, int warp, int lane)
      : first(shared_address(shared) + warp * kStages * kTileBytes), places(Store::places_of(lane)) {
    keep(first);
  }

  // Asks for a tile, of which nothing is there when it is not: each call counts.
  __device__ __forceinline__ void fetch(bool some, const char* page, uint32_t place, int lane, const PageShape& shape) {
    // Lanes are done with what lay there.
    __syncwarp();
    if (some) Store::copy_tile(first + ask, page, place, lane, shape);
    asm volatile("cp.async.commit_group;" ::: "memory");
    ask = next(ask);
  }
  // Where the oldest tile lies, once it is there: all but the last one asked for are.
  __device__ __forceinline__ uint32_t take() {
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncwarp();
    const uint32_t at = first + read;
    read = next(read);
    return at;
  }

 private:
  static __device__ __forceinline__ uint32_t next(uint32_t at) {
    return at == (kStages - 1) * kTileBytes ? 0 : at + kTileBytes;
  }
};

}  // namespace kvt
#endif
