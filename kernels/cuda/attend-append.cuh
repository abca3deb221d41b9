// New rows that a call of decode attention brings (calls/append.ts). A block writes those of the rows that it is going to
// read before it reads them, so that no kernel with a start and an end of its own stands between attention and the kernel
// before. Rows that several blocks read are written by each of them, alike.
#ifndef KVTIER_ATTEND_APPEND_CUH
#define KVTIER_ATTEND_APPEND_CUH

#include "attend-split.cuh"
#include "launch.h"

namespace kvt {

// Words of 16 bytes: those of a new key, then those of its value.
__device__ __forceinline__ const uint4* new_word(const AttendArguments& a, uint32_t row, uint32_t at) {
  const uint32_t words = a.shape.dim / 8;
  return (at < words ? a.k + at : a.v + (at - words)) + static_cast<uint64_t>(row) * words;
}

__device__ __forceinline__ void put_new_word(const AttendArguments& a, uint32_t slot, uint32_t at, const uint4& word) {
  if (slot == ~0u) return;
  const uint32_t words = a.shape.dim / 8, page = slot / a.page_tokens, place = slot - page * a.page_tokens;
  char* const to = const_cast<char*>(a.pool) + page * a.page_stride;
  reinterpret_cast<uint4*>(at < words ? to : to + a.shape.values - 16ull * words)[place * words + at] = word;
}

// A warp's share of the rows that a block reads: from `first` on those that begin before token `limit` of the line, or
// (All) all rows.
template <bool All>
__device__ __forceinline__ void append_rows(const AttendArguments& a, const Rows<>& rows, uint32_t first, uint32_t limit) {
  const uint32_t lane = threadIdx.x % 32, all = a.shape.dim / 4;
  for (uint32_t row = (All ? 0 : first) + threadIdx.x / 32; row < a.rows; row += blockDim.x / 32) {
    const uint32_t slot = __ldcg(a.slots + row);
    uint4 word = __ldcg(new_word(a, row, min(lane, all - 1)));
    if (!All && rows[row].start >= limit) return;
    for (uint32_t at = lane; at < all; at += 32) {
      if (at != lane) word = __ldcg(new_word(a, row, at));
      put_new_word(a, slot, at, word);
    }
  }
}

// That of a row which nothing is read of, by one thread.
__device__ __forceinline__ void append_unread(const AttendArguments& a, uint32_t row) {
  for (uint32_t at = 0; at < a.shape.dim / 4; at++) put_new_word(a, __ldcg(a.slots + row), at, __ldcg(new_word(a, row, at)));
}

// Brings a row's into the cache, before the kernel in front has ended. By one warp.
__device__ __forceinline__ void fetch_new_row(const AttendArguments& a, uint32_t row) {
  if (a.slots == nullptr) return;
  if (threadIdx.x == 0) fetch_line(a.slots + row);
  for (uint32_t at = threadIdx.x; at < a.shape.dim / 4; at += 32) fetch_line(new_word(a, row, at));
}

}  // namespace kvt
#endif
