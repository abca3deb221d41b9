// What a warp of decode attention begins with, found before the kernel in front has ended (launch.h): the block's tokens,
// the row where they begin and the warp's first tile. Each follows from the one before, a trip to memory each, behind
// loads of whole tiles. That kernel may yet write what is read here, so that the numbers on which a plan rests are read
// again behind the wait, all at once and ahead of the first tile; where one has changed, all is found anew.
#ifndef KVTIER_ATTEND_PLAN_CUH
#define KVTIER_ATTEND_PLAN_CUH

#include "attend-split.cuh"

namespace kvt {

// Rows whose first probes are all of them.
constexpr uint32_t kProbedRows = 32;

// Goes out where it stands, not where its number is first needed.
__device__ __forceinline__ uint32_t load_now(const uint32_t* at) {
  uint32_t x;
  asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(x) : "l"(at));
  return x;
}

// The row where a block begins, and the first tile of one of its warps.
struct Begin {
  uint32_t row;
  RowRange range;
  Stretch now;
};

template <bool Free>
struct Plan : Begin {
  bool made = false;
  Split<Free> split;
  // The table's.
  uint32_t entries, first_offset, first_tokens;

  // None where the table is longer than it can be, and where the warp's first tile is not in the block's first row.
  __device__ __forceinline__ void make(const AttendArguments& a, uint32_t tile, uint32_t warps) {
    const Rows<true> rows(a, threadIdx.x % 32);
    entries = rows.offset(a.rows);
    if (entries == 0 || entries > a.ahead_entries || (Free && a.rows > kProbedRows)) return;
    first_offset = rows.first_offset, first_tokens = rows.first_tokens;
    if (!split.cut(a, rows, entries * a.page_tokens, tile, warps, row, range) || split.begin >= split.limit) return;
    const uint32_t first = max(split.begin, range.start) + tile * (threadIdx.x / 32);
    now = {row, first, min(split.limit, range.ends), split.limit};
    made = now.flat < now.end;
  }
};

// What a plan rests on, behind the wait.
template <bool Free>
struct Again {
  uint32_t entries, start, next, tokens;

  __device__ __forceinline__ void read(const AttendArguments& a, const Plan<Free>& plan) {
    entries = load_now(a.offsets + a.rows);
    start = load_now(a.offsets + plan.row);
    next = load_now(a.offsets + plan.row + 1);
    tokens = load_now(a.tokens + plan.row);
  }

  // Pools' free tokens rest on other rows as well.
  __device__ __forceinline__ bool agrees(const AttendArguments& a, const Rows<>& rows, const Plan<Free>& plan) const {
    bool equal = entries == plan.entries && start * a.page_tokens == plan.range.start &&
                 plan.range.start + tokens == plan.range.ends &&
                 (plan.row + 1 == a.rows || next > plan.split.begin / a.page_tokens);
    if (Free) equal &= rows.first_offset == plan.first_offset && rows.first_tokens == plan.first_tokens;
    return __all_sync(~0u, equal);
  }
};

}  // namespace kvt
#endif
