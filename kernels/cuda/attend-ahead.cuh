// What decode attention knows before the kernel in front of it has ended (launch.h): where its first pages probably lie.
// They are brought into the L2 cache meanwhile, since memory would else stand idle from where that one's blocks end apart
// until this one has found its pages; and their loads need not wait for the tables, which are read beside them. Raw pages.
// Line by line over all warps: a warp that waits for the kernel in front stops its whole block until that one has ended, so
// that what few warps fetch for all went out only then (time lines on an H100).
// Source: PTX ISA, prefetch.
#ifndef KVTIER_ATTEND_AHEAD_CUH
#define KVTIER_ATTEND_AHEAD_CUH

#include "attend-append.cuh"
#include "attend-plan.cuh"
#include "attend-split.cuh"
#include "launch.h"

namespace kvt {

// Bytes a block at most, half of an H100's cache in all blocks; never more than the first half of what a block reads, which
// else stands behind its own prefetches, and nothing where that is little.
constexpr uint32_t kMostAhead = 192 << 10;
constexpr uint32_t kLeastAhead = 48 << 10;
constexpr uint32_t kLine = 128;

// What a block reads before its pages: the probes of its search for its row, and, where rows are about as long as each
// other, the places, queries and new rows of its first two rows; `first`: its first entry of the table.
__device__ __forceinline__ void fetch_first(const AttendArguments& a, uint64_t first, uint32_t entries) {
  if (threadIdx.x >= 32) return;
  const uint32_t probe = min(threadIdx.x * ((a.rows + 31) / 32), a.rows - 1);
  const uint32_t guess = entries == 0 ? 0 : static_cast<uint32_t>(first * a.rows / entries);
  fetch_line(a.offsets + probe), fetch_line(a.tokens + probe);
  if (guess >= a.rows) return;
  const uint32_t bytes = static_cast<uint32_t>(a.group * a.shape.dim * sizeof(uint16_t));
  for (uint32_t row = guess; row < min(a.rows, guess + 2); row++) {
    fetch_line(a.offsets + row), fetch_line(a.tokens + row);
    const char* const queries = reinterpret_cast<const char*>(a.q) + static_cast<uint64_t>(row) * bytes;
    for (uint32_t at = kLine * threadIdx.x; at < bytes; at += kLine * 32) fetch_line(queries + at);
    fetch_new_row(a, row);
  }
}

// What a warp begins with if all stays as it is, and where its first tile then lies.
template <int Tiles, bool Free>
struct Guess : Plan<Free>, Places<Tiles> {};

// Plans what a warp begins with where pools of blocks share rows (elsewhere it is found as quickly behind the wait), and
// fetches its block's first pages. What is read here may be written meanwhile: no more than an address within the pool comes
// of it, and it is read past the first cache, so that nothing old stays there.
template <typename Store, int Warps, bool Free>
__device__ __forceinline__ Guess<Store::kTiles, Free> fetch_ahead(const AttendArguments& a) {
  constexpr uint32_t kTile = 16 * Store::kTiles;
  Guess<Store::kTiles, Free> guess{};
  if (!Store::kAhead || a.ahead_entries == 0) return guess;
  if constexpr (Free) guess.make(a, kTile, Warps);
  else guess.entries = __ldcg(a.offsets + a.rows);
  const uint32_t entries = min(guess.entries, a.ahead_entries);
  const Portion<Free> portion(a, entries * a.page_tokens, kTile, Warps);
  const uint64_t from = portion.edge(blockIdx.x) * kTile, to = portion.edge(blockIdx.x + 1) * kTile;
  const uint64_t first = from / a.page_tokens, last = min(static_cast<uint64_t>(entries), to / a.page_tokens);
  const auto page_at = [&](uint64_t entry) { return __ldcg(a.table + min(entry, static_cast<uint64_t>(entries - 1))); };
  const uint32_t bytes = static_cast<uint32_t>(a.page_stride);
  const uint32_t ahead =
      first < last ? static_cast<uint32_t>(min(uint64_t{kMostAhead}, (last - first) * bytes / 2)) : 0;
  if (blockIdx.y == 0) fetch_first(a, first, entries);
  guess.some = ahead >= kLeastAhead;
  if (!guess.some) return guess;
#pragma unroll
  for (int t = 0; t < Store::kTiles; t++) {
    const uint64_t token = from + kTile * (threadIdx.x / 32) + (Store::kOnePage ? 0 : 16 * t + threadIdx.x % 16);
    const uint64_t entry = token / a.page_tokens;
    guess.place[t] = static_cast<uint32_t>(token - entry * a.page_tokens);
    guess.page[t] = min(page_at(entry), a.ahead_pages - 1);
  }
  if (blockIdx.y > 0) return guess;
  const uint32_t lines = bytes / kLine, all = ahead / bytes * lines;
#pragma unroll 4
  for (uint32_t i = threadIdx.x; i < all; i += blockDim.x) {
    const uint32_t page = page_at(first + i / lines);
    if (page < a.ahead_pages) fetch_line(a.pool + page * a.page_stride + kLine * (i % lines));
  }
  return guess;
}

}  // namespace kvt
#endif
