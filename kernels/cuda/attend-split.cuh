// Which tokens a block takes. Tokens of all rows stand on one line (row r from offsets[r] * pageTokens), each block has an
// equal stretch of it. Where rows are few or long, pools of blocks share a stretch: each has a part of most of it, and
// the rest is taken tile by tile by whichever warp is free, because multiprocessors don't reach memory equally fast (H100:
// 20 % apart, by processing cluster).
// Source: guided self-scheduling, Polychronopoulos and Kuck, doi:10.1109/TC.1987.5009495; Stream-K, arXiv 2301.03598.
#ifndef KVTIER_ATTEND_SPLIT_CUH
#define KVTIER_ATTEND_SPLIT_CUH

#include "attend-store.cuh"
#include "divisor.h"

namespace kvt {

// Blocks of a pool, and how few they may be where they have enough rounds.
constexpr uint32_t kBlocksOfPool = 16;
constexpr uint32_t kLeastBlocksOfPool = 8;
constexpr int kMostPools = 64;
// The share of a pool's tokens that no block has from the start, in 1/32, and how many rows it has at most.
constexpr uint32_t kFreeShare = 8;
constexpr uint32_t kFreeRows = 3;
// Blocks with fewer rounds of their warps keep to equal parts; where a row has fewer blocks than a pool, also those that
// read fewer bytes for each row: pools gain a share of the time, but cost some with every row whose parts are counted.
constexpr uint32_t kLeastRounds = 4;
constexpr uint32_t kLeastBytesOfRow = 60 << 10;
// In tiles of a block.
__host__ __device__ constexpr uint32_t least_of_pools(uint32_t rows, uint32_t blocks, uint32_t warps, uint32_t tile_bytes) {
  const uint32_t rounds = kLeastRounds * warps, enough = rows * kLeastBytesOfRow / tile_bytes;
  return rows * kBlocksOfPool <= blocks || enough < rounds ? rounds : enough;
}

using Count = unsigned long long;
constexpr Count kOnePart = Count{1} << 32;

struct AttendArguments {
  const uint16_t* q;
  const char* pool;
  const uint32_t* table;
  const uint32_t* offsets;
  const uint32_t* tokens;
  const uint32_t* mask;
  void* out;
  float* logits;  // for stores that leave them (attend-logits.cuh)
  // Parts of rows that several blocks share: kParts a block of [heads, dim + 4] f32 (o, m in log2, l); and of each row
  // which parts it has, up to a part a block.
  float* partials;
  uint32_t* lists;
  // A row and tile of heads: tokens that are done in the lower half, parts that are begun in the upper. Zero before and
  // after, as what follows.
  Count* counters;
  // Tiles taken from the pools' free tokens, and blocks that are done.
  uint32_t* taken;
  uint32_t* blocks_done;
  uint32_t rows;
  int group;
  uint32_t page_tokens;
  // Tiles of 32 tokens of a page, where pages have whole ones.
  Divisor page_tiles;
  int64_t page_stride;
  float scale_log2;
  int q_f16;
  int out_type;
  int parts;
  int part;
  PageShape shape;
  // New rows, as in calls/append.ts; null slots: none.
  const uint4* k;
  const uint4* v;
  const uint32_t* slots;
  // How many entries the table and pages the pool have for attend-ahead.cuh; 0 entries: nothing is fetched ahead.
  uint32_t ahead_entries;
  uint32_t ahead_pages;
  // Whether the next kernel comes up at once (launch.h).
  bool next_ahead;
};

// A row on the line: its first token, and one past its last.
struct RowRange {
  uint32_t start, ends;
};

// Rows by what starts where. Every load is a trip to memory, so rows are probed 32 at a time, and the first probes go out
// with the first load of all. Early: before the kernel in front has ended, which may yet write what is read; so that
// nothing old stays there it is read past the first cache, and what it leads to lies within the tables.
template <bool Early = false>
class Rows {
  const AttendArguments& a;
  const int lane;

 public:
  const uint32_t first_offset, first_tokens;

  __device__ __forceinline__ Rows(const AttendArguments& arguments, int own)
      : a(arguments), lane(own), first_offset(offset(lane * step(a.rows))), first_tokens(tokens(lane * step(a.rows))) {}

  // The table's entries before a row; one past the last: all.
  __device__ __forceinline__ uint32_t offset(uint32_t row) const { return load(a.offsets + min(row, a.rows)); }

  __device__ __forceinline__ RowRange operator[](uint32_t row) const {
    if (Early && a.rows <= 32) return range(__shfl_sync(~0u, first_offset, row), __shfl_sync(~0u, first_tokens, row));
    return range(offset(row), tokens(row));
  }

  // The last row that starts at or before a token.
  __device__ __forceinline__ uint32_t at(uint32_t token, RowRange& found) const {
    const uint32_t entry = token / a.page_tokens;
    uint32_t low = 0, high = a.rows, by = step(a.rows), offsets = first_offset, counts = first_tokens;
    while (true) {
      const bool before = low + lane * by < high && offsets <= entry;
      const uint32_t earlier = __ballot_sync(~0u, before);
      const int last = Early && earlier == 0 ? 0 : 31 - __clz(earlier);
      low += last * by;
      high = min(high, low + by);
      if (high - low <= 1) {
        found = range(__shfl_sync(~0u, offsets, last), __shfl_sync(~0u, counts, last));
        return low;
      }
      by = step(high - low);
      offsets = offset(low + lane * by);
      counts = tokens(low + lane * by);
    }
  }

 private:
  static __device__ __forceinline__ uint32_t step(uint32_t rows) { return (rows + 31) / 32; }
  static __device__ __forceinline__ uint32_t load(const uint32_t* at) { return Early ? __ldcg(at) : __ldg(at); }
  __device__ __forceinline__ uint32_t tokens(uint32_t row) const { return load(a.tokens + min(row, a.rows - 1)); }
  __device__ __forceinline__ RowRange range(uint32_t offset, uint32_t tokens) const {
    return {offset * a.page_tokens, offset * a.page_tokens + tokens};
  }
};

// The tiles that are a block's own from the start, [edge(block), edge(block + 1)), and (Free) those of its pool, [low, high)
// of which the last are free from `middle` on.
template <bool Free>
struct Portion {
  uint32_t per;  // tiles a block, without pools
  bool pooled = false;
  uint32_t pools, pool, first, size;
  uint64_t low, middle, high;

  __device__ __forceinline__ Portion(const AttendArguments& a, uint32_t total, uint32_t tile, uint32_t warps) {
    const uint32_t blocks = gridDim.x, block = blockIdx.x;
    const uint32_t tiles = total / tile + (total % tile != 0);
    per = max(1u, (tiles + blocks - 1) / blocks);
    // Whole rows where they are equally long and blocks end little further apart: nothing is left to merge.
    const uint32_t whole = (a.rows + blocks - 1) / blocks * (total / a.rows);
    if (!Free && whole % tile == 0 && whole / tile - per <= per / 16) per = whole / tile;
    if constexpr (!Free) return;
    pooled = per >= least_of_pools(a.rows, blocks, warps, tile * (a.shape.key_row + a.shape.value_row));
    pools = min(min(a.rows, max(1u, blocks / kLeastBlocksOfPool)), static_cast<uint32_t>(kMostPools));
    pool = ((block + 1) * pools - 1) / blocks;
    first = blocks * pool / pools, size = blocks * (pool + 1) / pools - first;
    low = static_cast<uint64_t>(tiles) * first / blocks;
    high = static_cast<uint64_t>(tiles) * (first + size) / blocks;
    middle = high - (high - low) * kFreeShare / 32;
  }
  __device__ __forceinline__ uint64_t edge(uint32_t block) const {
    if (Free && pooled) return low + (middle - low) * (block - first) / size;
    return static_cast<uint64_t>(block) * per;
  }
};

// The block's own tokens [begin, limit) and (Free) the free ones [free, free_limit) of its pool. Without free ones all
// blocks' are `per` tokens long.
template <bool Free>
struct Split {
  uint32_t begin, limit, per, free, free_limit;
  uint32_t* taken;  // null where no tokens are free

  // False when nothing of `total` tokens is there for this block; else the row where its tokens begin.
  template <bool Early>
  __device__ __forceinline__ bool cut(const AttendArguments& a, const Rows<Early>& rows, uint32_t total, uint32_t tile,
                                      uint32_t warps, uint32_t& row, RowRange& range) {
    Portion<Free> portion(a, total, tile, warps);
    per = portion.per * tile;
    free = free_limit = 0;
    taken = nullptr;
    if (Free && portion.pooled) {
      // Free are the last tiles of the pool, in its last rows.
      RowRange last;
      const uint32_t last_row =
          rows.at(static_cast<uint32_t>(min(portion.high * tile, static_cast<uint64_t>(total))) - 1, last);
      const uint32_t first_free = last_row + 1 > kFreeRows ? last_row + 1 - kFreeRows : 0;
      const uint64_t start = (rows[first_free].start + static_cast<uint64_t>(tile) - 1) / tile;
      portion.middle = min(portion.high, max(portion.middle, start));
      if (portion.middle < portion.high) {
        free = static_cast<uint32_t>(portion.middle * tile);
        free_limit = static_cast<uint32_t>(min(portion.high * tile, static_cast<uint64_t>(total)));
      }
      taken = a.taken + blockIdx.y * portion.pools + portion.pool;
    }
    const uint64_t from = portion.edge(blockIdx.x) * tile, to = portion.edge(blockIdx.x + 1) * tile;
    if (from >= total) return false;
    begin = static_cast<uint32_t>(from);
    limit = static_cast<uint32_t>(min(static_cast<uint64_t>(total), to));
    row = rows.at(begin, range);
    return true;
  }

  // Pools' counters are zero again when the last block is done; called by one thread of each.
  __device__ __forceinline__ void leave(const AttendArguments& a) const {
    if (taken == nullptr) return;
    __threadfence();
    if (atomicAdd(a.blocks_done, 1) + 1 != gridDim.x * gridDim.y) return;
    for (uint32_t i = 0; i < kMostPools * gridDim.y; i++) a.taken[i] = 0;
    *a.blocks_done = 0;
  }
};

// The next tile of a warp: tokens [flat, end) of the line, in a row; row = rows when there is none. `limit` is where the
// tokens end from which it was taken: the block's own, or a free tile.
struct Stretch {
  uint32_t row;
  uint32_t flat;
  uint32_t end;
  uint32_t limit;
};

// Where the tokens of a tile lie: each lane knows the one at lane % 16 of each 16.
template <int Tiles>
struct Places {
  uint32_t page[Tiles];
  uint32_t place[Tiles];
  uint32_t mask[Tiles];
  // False past the last tile.
  bool some;
};

}  // namespace kvt
#endif
