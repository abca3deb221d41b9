// The end of decode attention: how a block's sums become results, by themselves or merged with those of the other blocks
// of a row.
#ifndef KVTIER_ATTEND_FINISH_CUH
#define KVTIER_ATTEND_FINISH_CUH

#include "attend-append.cuh"
#include "attend-split.cuh"
#include "last-block.cuh"

namespace kvt {

constexpr float kLn2 = 0.693147180559945f;
// Parts that a block can have: of the rows where its own tokens begin and end, and of those with free tokens.
constexpr uint32_t kParts = 2 + kFreeRows + 1;

// Sums of a block's warps in shared memory. Maxima have two places that rows take in turn: warps that are done with a row
// write the next one's while others still read.
template <int Dim, int Heads, int Warps>
struct BlockSums {
  // Rows are 4 longer than needed, so that heads fall into different banks.
  static constexpr int kRow = Dim + 4;
  static constexpr int kFloats = (Warps * (Heads * (kRow + 3) + 2) + 3) / 4 * 4;
  float* const memory;
  float* const maxima;
  uint32_t* const counts;

  __device__ BlockSums(float* shared, int turn)
      : memory(shared),
        maxima(shared + Warps * Heads * (kRow + 1 + turn)),
        counts(reinterpret_cast<uint32_t*>(shared) + Warps * Heads * (kRow + 3) + Warps * turn) {}
  __device__ float* o(int warp, int head) const { return memory + (warp * Heads + head) * kRow; }
  __device__ float& sum(int warp, int head) const { return memory[Warps * Heads * kRow + warp * Heads + head]; }
  __device__ float& most(int warp, int head) const { return maxima[warp * Heads + head]; }
  // Tokens that a warp, and that the block has read of the row.
  __device__ uint32_t& tokens(int warp) const { return counts[warp]; }
  __device__ uint32_t tokens() const {
    uint32_t sum = 0;
#pragma unroll
    for (int w = 0; w < Warps; w++) sum += counts[w];
    return sum;
  }
  __device__ float top(int head) const {
    float x = most(0, head);
#pragma unroll
    for (int w = 1; w < Warps; w++) x = fmaxf(x, most(w, head));
    return x;
  }
};

// Writes four channels of a head's result: o not divided by l, maximum in log2.
__device__ __forceinline__ void write_result(const AttendArguments& a, uint32_t row, int head, int channel, float4 o,
                                             float most, float sum) {
  const int64_t at = static_cast<int64_t>(row) * a.group + head;
  if (a.parts > 0) {
    float* to = static_cast<float*>(a.out) + (at * a.parts + a.part) * (a.shape.dim + 2);
    to[channel] = o.x, to[channel + 1] = o.y, to[channel + 2] = o.z, to[channel + 3] = o.w;
    if (channel == 0) to[a.shape.dim] = sum > 0 ? most * kLn2 : 0, to[a.shape.dim + 1] = sum;
    return;
  }
  const float by = sum > 0 ? 1 / sum : 0;
  const float4 x = {o.x * by, o.y * by, o.z * by, o.w * by};
  const int64_t place = at * a.shape.dim + channel;
  if (a.out_type == 0) *reinterpret_cast<float4*>(static_cast<float*>(a.out) + place) = x;
  else {
    uint2 pairs;
    if (a.out_type == 1) pairs = {Bf16::pack(x.x, x.y), Bf16::pack(x.z, x.w)};
    else pairs = {F16::pack(x.x, x.y), F16::pack(x.z, x.w)};
    *reinterpret_cast<uint2*>(static_cast<uint16_t*>(a.out) + place) = pairs;
  }
}

// The same into a part; without one, to the result.
template <int Dim>
__device__ __forceinline__ void write_part(const AttendArguments& a, uint32_t row, int first_head, int head, int channel,
                                           float4 o, float most, float sum, float* part) {
  if (part == nullptr) {
    if (channel < a.shape.dim) write_result(a, row, first_head + head, channel, o, most, sum);
    return;
  }
  float* const to = part + head * (Dim + 4);
  __stcg(reinterpret_cast<float4*>(to + channel), o);
  if (channel == 0) __stcg(reinterpret_cast<float2*>(to + Dim), make_float2(most, sum));
}

template <int Heads>
__device__ __forceinline__ void zero_empty_rows(const AttendArguments& a) {
  for (uint32_t row = blockIdx.x * blockDim.x + threadIdx.x; row < a.rows; row += gridDim.x * blockDim.x) {
    if (__ldg(a.tokens + row) > 0) continue;
    if (a.slots != nullptr) append_unread(a, row);
    const int first = blockIdx.y * Heads, last = min(a.group, first + Heads);
    for (int head = first; head < last; head++)
      for (int channel = 0; channel < a.shape.dim; channel += 4)
        write_result(a, row, head, channel, {0, 0, 0, 0}, 0, 0);
  }
}

// Parts that a thread loads at a time.
constexpr int kPartsAhead = 12;

// Sums being merged: o relative to the maximum, as in BlockSums.
struct Merging {
  float4 o = {0, 0, 0, 0};
  float most = -INFINITY;
  float sum = 0;

  __device__ __forceinline__ void raise(float top) {
    const float keep = most == -INFINITY ? 0 : exp2_fast(most - top);
    o = {o.x * keep, o.y * keep, o.z * keep, o.w * keep};
    sum *= keep;
    most = top;
  }
  // `top` is the maximum now, not below the part's.
  __device__ __forceinline__ void add(const float4& part, float part_most, float part_sum) {
    if (!(part_sum > 0)) return;
    const float by = exp2_fast(part_most - most);
    o = {o.x + part.x * by, o.y + part.y * by, o.z + part.z * by, o.w + part.w * by};
    sum += part_sum * by;
  }
};

// Merges `count` parts of a row, by teams of threads that take every so many; place_of(i) says which part is the i-th.
template <int Dim, int Heads, typename Place>
__device__ __forceinline__ void merge_parts(const AttendArguments& a, float* shared, int first_head, uint32_t row,
                                            uint32_t count, float* merged, Place place_of) {
  constexpr int kRow = Dim + 4;
  constexpr int kBatch = kPartsAhead;
  const int items = min(a.group - first_head, Heads) * (Dim / 4);
  const int teams = max(1, static_cast<int>(blockDim.x) / items);
  const auto part_at = [&](uint32_t i) { return a.partials + static_cast<int64_t>(place_of(i)) * Heads * kRow; };
  const int together = teams > 1 ? items : static_cast<int>(blockDim.x);
  for (int from_item = 0; from_item < items; from_item += together) {
    const int team = teams > 1 ? threadIdx.x / items : 0;
    const int item = teams > 1 ? threadIdx.x % items : from_item + threadIdx.x;
    const bool works = team < teams && item < items;
    const int head = item / (Dim / 4), channel = item % (Dim / 4) * 4;
    Merging merging;
    for (uint32_t from = team * kBatch; works && from < count; from += teams * kBatch) {
      float4 part[kBatch];
      float2 stat[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; i++) {
        const float* p = part_at(min(from + i, count - 1)) + head * kRow;
        part[i] = __ldcg(reinterpret_cast<const float4*>(p + channel));
        stat[i] = __ldcg(reinterpret_cast<const float2*>(p + Dim));
        if (from + i >= count) stat[i].y = 0;
      }
      float top = merging.most;
#pragma unroll
      for (int i = 0; i < kBatch; i++)
        if (stat[i].y > 0) top = fmaxf(top, stat[i].x);
      merging.raise(top);
#pragma unroll
      for (int i = 0; i < kBatch; i++) merging.add(part[i], stat[i].x, stat[i].y);
    }
    if (teams > 1) {
      float* const mine = shared + (team * items + item) * 6;
      if (works && team > 0) {
        *reinterpret_cast<float2*>(mine) = {merging.o.x, merging.o.y};
        *reinterpret_cast<float2*>(mine + 2) = {merging.o.z, merging.o.w};
        *reinterpret_cast<float2*>(mine + 4) = {merging.most, merging.sum};
      }
      __syncthreads();
      for (int t = 1; works && team == 0 && t < teams; t++) {
        const float* other = shared + (t * items + item) * 6;
        if (!(other[5] > 0)) continue;
        merging.raise(fmaxf(merging.most, other[4]));
        merging.add({other[0], other[1], other[2], other[3]}, other[4], other[5]);
      }
    }
    if (works && team == 0)
      write_part<Dim>(a, row, first_head, head, channel, merging.o, merging.most, merging.sum, merged);
  }
  // The next row's sums go to the same shared memory.
  __syncthreads();
}

// Writes the block's sums of a row: its result, or a part.
template <int Dim, int Heads, int Warps>
__device__ __forceinline__ void write_sums(const AttendArguments& a, int first_head,
                                           const BlockSums<Dim, Heads, Warps>& block, uint32_t row, bool whole,
                                           float* part) {
  const int heads = min(a.group - first_head, Heads);
  for (int at = threadIdx.x; at < heads * (Dim / 4); at += blockDim.x) {
    const int head = at / (Dim / 4), channel = at % (Dim / 4) * 4;
    float4 o = {0, 0, 0, 0};
    float sum = 0;
#pragma unroll
    for (int w = 0; w < Warps; w++) {
      const float4 x = *reinterpret_cast<const float4*>(block.o(w, head) + channel);
      o = {o.x + x.x, o.y + x.y, o.z + x.z, o.w + x.w};
      sum += block.sum(w, head);
    }
    const float most = block.top(head);
    write_part<Dim>(a, row, first_head, head, channel, o, most, sum, whole ? nullptr : part);
  }
}

// Where the parts of a row are more than a block loads in so many turns, groups of them are merged first, so many, each by
// the last of its blocks that is done.
constexpr int kMostTurns = 5;
constexpr uint32_t kGroups = 8;
template <int Dim>
__host__ __device__ constexpr bool merges_in_groups(uint32_t parts, uint32_t heads, uint32_t threads) {
  return parts * heads * (Dim / 4) > kMostTurns * kPartsAhead * threads;
}

// The block's sums of a row, where the blocks that read of it follow each other: the last one that is done merges.
template <int Dim, int Heads, int Warps>
__device__ __forceinline__ void finish_row(const AttendArguments& a, const Split<false>& split,
                                           const BlockSums<Dim, Heads, Warps>& block, uint32_t row,
                                           const RowRange& range, uint32_t&) {
  const int first_head = blockIdx.y * Heads;
  const uint32_t first = range.start / split.per;
  const uint32_t count = (range.ends - 1) / split.per - first + 1;
  // A row is the second part of the block where it starts, and the first one of later blocks.
  const uint32_t blocks = blockIdx.y * gridDim.x;
  const uint32_t place = 2 * (blocks + blockIdx.x) + (range.start < split.begin ? 0 : 1);
  const auto part_at = [&](uint32_t at) { return a.partials + static_cast<int64_t>(at) * Heads * (Dim + 4); };
  write_sums(a, first_head, block, row, count == 1, part_at(place));
  Count* const counters = a.counters + static_cast<int64_t>(blockIdx.y) * (a.rows + gridDim.x);
  const uint32_t heads = min(a.group - first_head, Heads);
  // Parts [from, from + size) are merged, of which every `step`-th one has those up to the next.
  uint32_t step = 1, size = count;
  if (merges_in_groups<Dim>(count, heads, blockDim.x)) size = (count + kGroups - 1) / kGroups;
  while (step < count) {
    const uint32_t from = (blockIdx.x - first) / size * size, most = min(size, count - from);
    const uint32_t members = (most + step - 1) / step;
    const bool last = size == count;
    const auto place_of = [&](uint32_t i) {
      const uint32_t part = from + i * step;
      if (step > 1 && part + 1 < count) return 2 * gridDim.x * gridDim.y + blocks + first + part;
      return 2 * (blocks + first + part) + (part == 0 ? 1 : 0);
    };
    // A group of one is its part.
    if (members > 1) {
      Count* const counter = counters + (last ? row : a.rows + first + from);
      if (!comes_last(reinterpret_cast<uint32_t*>(counter), members)) return;
      float* const merged = part_at(2 * gridDim.x * gridDim.y + blocks + first + from);
      merge_parts<Dim, Heads>(a, block.memory, first_head, row, members, last ? nullptr : merged, place_of);
    }
    step = size;
    size = count;
  }
}

// The same where any block may have read of the row: its tokens are counted, and parts are listed. `part`: the block's own.
template <int Dim, int Heads, int Warps>
__device__ __forceinline__ void finish_row(const AttendArguments& a, const Split<true>& split,
                                           const BlockSums<Dim, Heads, Warps>& block, uint32_t row,
                                           const RowRange& range, uint32_t& part) {
  __shared__ uint32_t parts;
  const int first_head = blockIdx.y * Heads;
  const uint32_t own = block.tokens(), tokens = range.ends - range.start;
  const bool whole = own == tokens;
  const int64_t tiles_row = static_cast<int64_t>(blockIdx.y) * a.rows + row;
  Count* const counter = a.counters + static_cast<int64_t>(blockIdx.y) * (a.rows + gridDim.x) + row;
  uint32_t* const list = a.lists + tiles_row * gridDim.x;
  const uint32_t place = (blockIdx.y * gridDim.x + blockIdx.x) * kParts + part;
  if (!whole && threadIdx.x == 0) __stcg(list + (atomicAdd(counter, kOnePart) >> 32), place);
  write_sums(a, first_head, block, row, whole, a.partials + static_cast<int64_t>(place) * Heads * (Dim + 4));
  if (whole) return;
  part++;
  __syncthreads();
  if (threadIdx.x == 0) {
    const Count before = count_at(counter, own);
    parts = 0;
    if (static_cast<uint32_t>(before) + own == tokens) {
      parts = static_cast<uint32_t>(before >> 32);
      *counter = 0;
    }
  }
  __syncthreads();
  if (parts == 0) return;
  merge_parts<Dim, Heads>(a, block.memory, first_head, row, parts, nullptr,
                          [&](uint32_t i) { return __ldcg(list + i); });
}

}  // namespace kvt
#endif
