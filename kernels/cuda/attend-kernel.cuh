// Split-KV decode attention in one launch. Blocks take tokens from one line of all rows (attend-split.cuh), their warps 16
// in turn, straight from memory into tensor-core operands: S^T = K Q^T, O^T = V^T P^T, so that up to 8 query heads fill a
// tile. The block that is done last with a row merges its parts.
// Source: Flash-Decoding (crfm.stanford.edu/2023/10/12/flashdecoding.html).
#ifndef KVTIER_ATTEND_KERNEL_CUH
#define KVTIER_ATTEND_KERNEL_CUH

#include "attend-ahead.cuh"
#include "attend-append.cuh"
#include "attend-finish.cuh"
#include "attend-logits.cuh"
#include "attend-queries.cuh"
#include "attend-stages.cuh"
#include "attend-walk.cuh"
#include "attend-weights.cuh"
#include "launch.h"

namespace kvt {

template <typename Store, int HeadTiles, int Warps, bool Free>
class Attend {
  using T = typename Store::T;
  static constexpr int kDim = Store::kDim;
  static constexpr int kHeads = 8 * HeadTiles;
  static constexpr int kTiles = Store::kTiles;
  static constexpr uint32_t kTile = 16 * kTiles;
  using Where = Places<kTiles>;

  const AttendArguments& a;
  const int lane, warp, g, c;
  const int first_head = blockIdx.y * kHeads;
  Walk<kTile, Warps, Free> walk;
  uint32_t part = 0;

  Store store;
  Queries<Store, HeadTiles, Warps> queries;
  Stages<Store, Warps> stages;
  float o[HeadTiles][kDim / 16][4];
  Weights<kTiles, HeadTiles, kDim / 16> weights;

 public:
  __device__ Attend(const AttendArguments& arguments, float* shared)
      : a(arguments),
        lane(threadIdx.x % 32),
        warp(threadIdx.x / 32),
        g(lane / 4),
        c(lane % 4),
        walk(a),
        queries(shared + BlockSums<kDim, kHeads, Warps>::kFloats),
        stages(reinterpret_cast<char*>(shared + BlockSums<kDim, kHeads, Warps>::kFloats) +
                   Queries<Store, HeadTiles, Warps>::kSharedBytes,
               warp, lane) {}

  __device__ __forceinline__ void run(float* shared, const Guess<kTiles, Free>& guess) {
    Begin begin = guess;
    Where where;
    bool found = Free && Store::kAhead && guess.made;
    Again<Free> again;
    if (found) {
      again.read(a, guess);
      locate<true>(begin.now, where);
    }
    load_keys(guess);
    load_values(guess);
    if (found) {
      found = again.agrees(a, walk.rows, guess);
      walk.split = guess.split;
    }
    if (!found) {
      found = walk.begin(begin);
      if (found) locate(begin.now, where);
    }
    if (found) run(shared, guess, begin, where);
    zero_empty_rows<kHeads>(a);
    if (Free && threadIdx.x == 0) walk.split.leave(a);
  }

 private:
  // Two tiles ahead, where the tokens lie; one ahead, keys and values in registers.
  __device__ __forceinline__ void run(float* shared, const Where& guess, const Begin& begin, Where where) {
    uint32_t row = begin.row;
    RowRange range = begin.range;
    Stretch now = begin.now;
    Where next_where;
    if (append(now, where, row) || !same(where, guess)) {
      load_keys(where);
      load_values(where);
    }
    if constexpr (Store::kStaged) fetch(where);
    Stretch next = now;
    walk.advance(next);
    locate(next, next_where);
    if constexpr (Store::kStaged) fetch(next_where);
    // The row where the free tokens begin; the block comes to all of their rows.
    RowRange free_range = range;
    uint32_t free_row = row;
    if (Free && walk.split.free < walk.split.free_limit) free_row = walk.rows.at(walk.split.free, free_range);
    if (Free && walk.split.begin >= walk.split.limit) row = free_row, range = free_range;
    for (int turn = 0;;) {
      const bool more = row + 1 < a.rows;
      const RowRange next_range = walk.rows[more ? row + 1 : row];
      const bool own = max(walk.split.begin, range.start) < min(walk.split.limit, range.ends);
      if (own || (Free && range.start < range.ends)) {
        start(row);
        uint32_t tokens = 0;
        while (now.row == row) {
          if constexpr (Free) tokens += min(kTile, now.end - now.flat);
          Stretch after = next;
          walk.advance(after);
          Where after_where;
          locate(after, after_where);
          attend_tile(now, where, next_where, after_where);
          if constexpr (Store::kOnePage && !Store::kStaged)
            if (after_where.some) Store::fetch_tile(page_of(after_where), after_where.place[0], lane, a.shape);
          now = next;
          next = after;
          where = next_where;
          next_where = after_where;
        }
        finish(shared, turn, row, range, tokens);
        turn ^= 1;
      }
      if (!more) break;
      row++;
      range = next_range;
      if (range.start < walk.split.limit) continue;
      if constexpr (!Free) break;
      if (row < free_row) row = free_row, range = free_range;
      if (range.start >= walk.split.free_limit) break;
    }
  }

  // Writes the call's new rows among those that the block reads, which are there after this; true where the warp may have
  // loaded one of its first tile before.
  __device__ __forceinline__ bool append(const Stretch& now, const Where& where, uint32_t row) {
    if constexpr (!Store::kAppends) return false;
    if (a.slots == nullptr) return false;
    const uint32_t slot = where.some ? __ldcg(a.slots + now.row) : ~0u;
    append_rows<Free>(a, walk.rows, row, walk.split.limit);
    bool among = false;
#pragma unroll
    for (int t = 0; t < kTiles; t++) among |= where.page[t] * a.page_tokens + where.place[t] == slot;
    __syncthreads();
    return __any_sync(~0u, among);
  }

  template <bool Now = false>
  __device__ __forceinline__ void locate(const Stretch& s, Where& where) {
    where.some = s.row < a.rows;
#pragma unroll
    for (int t = 0; t < kTiles; t++) {
      where.page[t] = where.place[t] = 0;
      where.mask[t] = ~0u;
      if (!where.some || (Store::kOnePage && t > 0)) continue;
      const uint32_t token = Store::kOnePage ? s.flat : min(s.flat + 16 * t + lane % 16, s.end - 1);
      const uint32_t entry = Store::kOnePage ? a.page_tiles.quotient(token / kTile) : token / a.page_tokens;
      where.place[t] = token - entry * a.page_tokens;
      where.page[t] = Now ? load_now(a.table + entry) : __ldg(a.table + entry);
      if (a.mask != nullptr) where.mask[t] = __ldg(a.mask + entry) >> first_head;
    }
  }

  __device__ __forceinline__ bool same(const Where& x, const Where& y) {
    bool equal = x.some == y.some;
#pragma unroll
    for (int t = 0; t < (Store::kOnePage ? 1 : kTiles); t++) equal &= x.page[t] == y.page[t] && x.place[t] == y.place[t];
    return __all_sync(~0u, equal);
  }

  __device__ __forceinline__ Slot slot_at(const Where& where, int t, int token) {
    const uint32_t page = __shfl_sync(~0u, where.page[t], token);
    const uint32_t place = __shfl_sync(~0u, where.place[t], token);
    return {a.pool + page * a.page_stride, static_cast<int>(place)};
  }

  // Where a tile lies in one page, its tokens' places follow each other.
  __device__ __forceinline__ const char* page_of(const Where& where) { return a.pool + where.page[0] * a.page_stride; }

  __device__ __forceinline__ void fetch(const Where& where) {
    stages.fetch(where.some, page_of(where), where.place[0], lane, a.shape);
  }

  __device__ __forceinline__ void load_keys(const Where& where) {
    if constexpr (Store::kStaged) return;
    if (Store::kOnePage && !where.some) return;
    const char* const page = page_of(where);
    const int first = static_cast<int>(where.place[0]) + g;
#pragma unroll
    for (int t = 0; t < kTiles; t++) {
      Slot slots[2] = {{page, first, 16 * t}, {page, first, 16 * t + 8}};
      if constexpr (!Store::kOnePage) slots[0] = slot_at(where, t, g), slots[1] = slot_at(where, t, g + 8);
      if (Store::kOnePage || where.some) store.load_keys(t, slots, c, a.shape);
    }
  }

  __device__ __forceinline__ void load_values(const Where& where) {
    if constexpr (Store::kStaged) return;
    if (Store::kOnePage && !where.some) return;
    const char* const page = page_of(where);
    const int first = static_cast<int>(where.place[0]) + 2 * c;
#pragma unroll
    for (int t = 0; t < kTiles; t++) {
      const int at = 16 * t;
      Slot slots[4] = {{page, first, at}, {page, first, at + 1}, {page, first, at + 8}, {page, first, at + 9}};
      if constexpr (!Store::kOnePage)
#pragma unroll
        for (int s = 0; s < 4; s++) slots[s] = slot_at(where, t, 2 * c + s % 2 + s / 2 * 8);
      if (Store::kOnePage || where.some) store.load_values(t, slots, g, a.shape);
    }
  }

  __device__ __forceinline__ void start(uint32_t row) {
    weights.clear();
    queries.load(a, row, first_head, g, c);
#pragma unroll
    for (int ht = 0; ht < HeadTiles; ht++)
#pragma unroll
      for (int m = 0; m < kDim / 16; m++) o[ht][m][0] = o[ht][m][1] = o[ht][m][2] = o[ht][m][3] = 0;
  }

  // One tile; loads of the next, or of the one after it to shared memory, go out as soon as there is room for them.
  __device__ __forceinline__ void attend_tile(const Stretch& now, const Where& where, const Where& next,
                                              const Where& after) {
    uint32_t tile = 0;
    if constexpr (Store::kStaged) {
      tile = stages.take();
      store.read_keys(tile, stages.places, c);
    }
    float s[kTiles][HeadTiles][4] = {};
    constexpr bool kFolds = Store::kFolds && HeadTiles == 1;
    uint32_t folded[kDim / 32][4];
    float offsets[2];
    if constexpr (kFolds) store.fold(queries.held[0], folded, offsets);
#pragma unroll
    for (int t = 0; t < kTiles; t++) {
      Slot slots[2] = {};
      if constexpr (Store::kSlots) slots[0] = slot_at(where, t, g), slots[1] = slot_at(where, t, g + 8);
#pragma unroll
      for (int i = 0; i < kDim / 32; i++) {
        uint32_t low[4], high[4];
        store.template keys<!kFolds>(t, 0, i, slots[0], c, a.shape, low);
        store.template keys<!kFolds>(t, 1, i, slots[1], c, a.shape, high);
#pragma unroll
        for (int ht = 0; ht < HeadTiles; ht++) {
          uint32_t by[4];
          if constexpr (kFolds)
#pragma unroll
            for (int w = 0; w < 4; w++) by[w] = folded[i][w];
          else queries.at(ht, i, by);
          // Folded queries lie in pairs as fold() left them.
          constexpr int x = kFolds ? 1 : 2, y = 3 - x;
          mma<T>(s[t][ht], low[0], high[0], low[y], high[y], by[0], by[y]);
          mma<T>(s[t][ht], low[x], high[x], low[3], high[3], by[x], by[3]);
        }
      }
    }
    if constexpr (kFolds) {
      const float unit = Store::kFoldedUnit * a.scale_log2;
      offsets[0] *= a.scale_log2, offsets[1] *= a.scale_log2;
#pragma unroll
      for (int t = 0; t < kTiles; t++)
#pragma unroll
        for (int j = 0; j < 4; j++) s[t][0][j] = s[t][0][j] * unit + offsets[j % 2];
    }
    load_keys(next);
    if constexpr (Store::kStaged) fetch(after);
    const bool all = Store::kOnePage && a.mask == nullptr && now.end - now.flat >= kTile;
    uint32_t reads[kTiles][2];
    if (!all) reads_of(now, where, reads);
    if constexpr (Store::kStaged) store.read_values(tile, stages.places);
    if constexpr (kLeavesLogits<Store>) leave_logits(a, now, first_head, all, reads, s);
    weights.weigh(s, all, reads, c, kFolds ? 1 : a.scale_log2, o);
    if constexpr (Store::kOnePage)
      if (now.end - now.flat < kTile) store.drop_values(static_cast<int>(now.end - now.flat), c);
#pragma unroll
    for (int t = 0; t < kTiles; t++) {
      uint32_t p[HeadTiles][2];
#pragma unroll
      for (int ht = 0; ht < HeadTiles; ht++) {
        p[ht][0] = transpose8(T::pack(s[t][ht][0], s[t][ht][1]));
        p[ht][1] = transpose8(T::pack(s[t][ht][2], s[t][ht][3]));
      }
#pragma unroll
      for (int h = 0; h < kDim / 64; h++) {
        uint32_t first[8], second[8];
        store.values(t, 0, h, a.shape, first);
        store.values(t, 1, h, a.shape, second);
#pragma unroll
        for (int x = 0; x < 4; x++)
#pragma unroll
          for (int ht = 0; ht < HeadTiles; ht++)
            mma<T>(o[ht][4 * h + x], first[2 * x], first[2 * x + 1], second[2 * x], second[2 * x + 1], p[ht][0],
                   p[ht][1]);
      }
    }
    load_values(next);
  }

  // Which heads read tokens g and g + 8 of each 16.
  __device__ __forceinline__ void reads_of(const Stretch& now, const Where& where, uint32_t (&reads)[kTiles][2]) {
#pragma unroll
    for (int t = 0; t < kTiles; t++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        if constexpr (Store::kOnePage) reads[t][half] = where.mask[0];
        else reads[t][half] = a.mask == nullptr ? ~0u : __shfl_sync(~0u, where.mask[t], g + 8 * half);
        if (now.flat + 16 * t + 8 * half + g >= now.end) reads[t][half] = 0;
      }
  }

  // Sums of the block's warps, relative to their common maximum, and on to the row's result.
  __device__ __forceinline__ void finish(float* shared, int turn, uint32_t row, const RowRange& range, uint32_t tokens) {
    BlockSums<kDim, kHeads, Warps> block(shared, turn);
#pragma unroll
    for (int ht = 0; ht < HeadTiles; ht++)
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const float top = across_tokens<true>(weights.most[ht][j]);
        if (g == 0) block.most(warp, 8 * ht + 2 * c + j) = top;
      }
    if (Free && lane == 0) block.tokens(warp) = tokens;
    __syncthreads();
    if (Free && block.tokens() == 0) return;
#pragma unroll
    for (int ht = 0; ht < HeadTiles; ht++)
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const int head = 8 * ht + 2 * c + j;
        const float factor = weights.factor(ht, j, block.top(head));
        const float sum = across_tokens<false>(weights.sum[ht][j]) * factor;
        if (g == 0) block.sum(warp, head) = sum;
        if (first_head + head >= a.group) continue;
#pragma unroll
        for (int h = 0; h < kDim / 64; h++) {
          float* to = block.o(warp, head) + 8 * Store::value_chunk(h, g);
#pragma unroll
          for (int x = 0; x < 4; x++) {
            to[2 * x] = o[ht][4 * h + x][j] * factor;
            to[2 * x + 1] = o[ht][4 * h + x][j + 2] * factor;
          }
        }
      }
    __syncthreads();
    finish_row<kDim, kHeads, Warps>(a, walk.split, block, row, range, part);
  }
};

// One block a multiprocessor, so that rows fall into few parts.
template <typename Store, int HeadTiles, int Warps, bool Free>
__global__ __launch_bounds__(32 * Warps, 1) void attend_kernel(const __grid_constant__ AttendArguments a) {
  const auto guess = fetch_ahead<Store, Warps, Free>(a);
  begin_kernel(a.next_ahead);
  extern __shared__ float shared[];
  Attend<Store, HeadTiles, Warps, Free> attend(a, shared);
  attend.run(shared, guess);
}

}  // namespace kvt
#endif
