// What decode attention knows before the kernel in front of it has ended (launch.h): where its first pages probably lie.
// They are brought into the L2 cache meanwhile, since memory would else stand idle from where that one's blocks end apart
// until this one has found its pages; and their loads need not wait for the tables, which are read beside them. Raw pages.
// Source: PTX ISA, cp.async.bulk.prefetch.
#ifndef KVTIER_ATTEND_AHEAD_CUH
#define KVTIER_ATTEND_AHEAD_CUH

#include "attend-split.cuh"
#include "launch.h"

namespace kvt {

// Bytes a block; those of all blocks are half of an H100's cache.
constexpr uint32_t kBytesAhead = 192 << 10;

// Blocks with less than so many times that much to read do without: what they gain is less than what it costs.
constexpr uint32_t kLeastShares = 3;

// Fetches a block's first pages, and returns where its warp's first tile lies if all stays as it is. What is read here may
// be written meanwhile: no more than an address within the pool comes of it, and it is read past the first cache, so that
// nothing old stays there.
template <typename Store, int Warps, bool Free>
__device__ __forceinline__ Places<Store::kTiles> fetch_ahead(const AttendArguments& a) {
  constexpr uint32_t kTile = 16 * Store::kTiles;
  Places<Store::kTiles> guess{};
  if (!Store::kAhead || a.ahead_entries == 0) return guess;
  const uint32_t entries = min(__ldcg(a.offsets + a.rows), a.ahead_entries);
  const Portion<Free> portion(a, entries * a.page_tokens, kTile, Warps);
  const uint64_t from = portion.edge(blockIdx.x) * kTile, to = portion.edge(blockIdx.x + 1) * kTile;
  const uint64_t first = from / a.page_tokens, last = min(static_cast<uint64_t>(entries), to / a.page_tokens);
  const auto page_at = [&](uint64_t entry) { return __ldcg(a.table + min(entry, static_cast<uint64_t>(entries - 1))); };
  const uint32_t bytes = static_cast<uint32_t>(a.page_stride);
  guess.some = first < last && (last - first) * bytes >= kLeastShares * kBytesAhead;
  if (!guess.some) return guess;
#pragma unroll
  for (int t = 0; t < Store::kTiles; t++) {
    const uint64_t token = from + kTile * (threadIdx.x / 32) + (Store::kOnePage ? 0 : 16 * t + threadIdx.x % 16);
    const uint64_t entry = token / a.page_tokens;
    guess.place[t] = static_cast<uint32_t>(token - entry * a.page_tokens);
    guess.page[t] = min(page_at(entry), a.ahead_pages - 1);
  }
  if (blockIdx.y > 0) return guess;
  for (uint64_t i = threadIdx.x; (i + 1) * bytes <= kBytesAhead; i += blockDim.x) {
    const uint32_t page = page_at(first + i);
    if (page < a.ahead_pages) fetch_to_cache(a.pool + page * a.page_stride, bytes);
  }
  return guess;
}

}  // namespace kvt
#endif
