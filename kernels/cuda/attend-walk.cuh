// A warp's way along the line of tokens (attend-split.cuh): which tile comes first, and which after another.
#ifndef KVTIER_ATTEND_WALK_CUH
#define KVTIER_ATTEND_WALK_CUH

#include "attend-plan.cuh"

namespace kvt {

template <uint32_t Tile, int Warps, bool Free>
class Walk {
  const AttendArguments& a;
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;

 public:
  const Rows<> rows;
  Split<Free> split;

  __device__ explicit Walk(const AttendArguments& arguments) : a(arguments), rows(arguments, threadIdx.x % 32) {}

  // Where the block and the warp begin; false where there is nothing for the block.
  __device__ __forceinline__ bool begin(Begin& at) {
    if (!split.cut(a, rows, rows.offset(a.rows) * a.page_tokens, Tile, Warps, at.row, at.range)) return false;
    at.now = {at.row, 0, 0, split.limit};
    if (Free && split.begin >= split.limit) take(at.now);
    else if (!enter(at.now, split.begin, Tile * warp)) take(at.now);
    return true;
  }

  __device__ __forceinline__ void advance(Stretch& s) {
    if (s.row >= a.rows) return;
    const bool own = !Free || s.limit == split.limit;
    s.flat += own ? Tile * Warps : Tile;
    if (s.flat < s.end) return;
    s.row++;
    if (!enter(s, 0, own ? Tile * warp : 0)) take(s);
  }

 private:
  // The first tile from token `from` on in row `s.row` or a later one, `skip` tokens into a row; false when there is none.
  __device__ __forceinline__ bool enter(Stretch& s, uint32_t from, uint32_t skip) {
    for (; s.row < a.rows; s.row++) {
      const RowRange range = rows[s.row];
      if (range.start >= s.limit) break;
      s.flat = max(from, range.start) + skip;
      s.end = min(s.limit, range.ends);
      if (s.flat < s.end) return true;
    }
    return false;
  }

  // A free tile.
  __device__ __forceinline__ void take(Stretch& s) {
    while (Free && split.taken != nullptr) {
      uint32_t tile = 0;
      if (lane == 0) tile = atomicAdd(split.taken, 1);
      const uint64_t from = split.free + static_cast<uint64_t>(__shfl_sync(~0u, tile, 0)) * Tile;
      if (from >= split.free_limit) break;
      s.limit = min(split.free_limit, static_cast<uint32_t>(from) + Tile);
      RowRange range;
      s.row = rows.at(static_cast<uint32_t>(from), range);
      if (enter(s, static_cast<uint32_t>(from), 0)) return;
    }
    s.row = a.rows;
  }
};

}  // namespace kvt
#endif
