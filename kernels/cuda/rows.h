// Moves rows between any two places that the GPU can address, one or none of which is chosen by an index. Loads of a
// thread are independent and 16 bytes wide where alignment allows, and the index is read one tile ahead, so that few
// multiprocessors keep a link to host memory full (Little's law: bytes in flight = bandwidth x round trip).
#ifndef KVTIER_CUDA_ROWS_H
#define KVTIER_CUDA_ROWS_H

#include "divisor.h"
#include "launch.h"

namespace kvt {

enum class Chosen { none, source, target };

struct RowJob {
  const uint8_t* source;
  uint8_t* target;
  const uint32_t* index;  // null when no side is chosen
  int64_t rows;
  int64_t source_stride, target_stride;  // bytes
  int64_t vectors = 0;                       // in all rows
  Divisor row_vectors = {};
  // What a block's stride over tiles is in whole rows and vectors.
  int64_t step_rows = 0;
  uint32_t step_vectors = 0;
  // Whether blocks fetch what they are to move before they wait.
  bool ahead = false;
};

// Nothing is read unless `there`: reads of one line of host memory by many threads would follow each other.
template <typename V>
__device__ __forceinline__ V load_once(const V* from, bool there) {
  return there ? __ldg(from) : V{};
}
template <>
__device__ __forceinline__ uint4 load_once(const uint4* from, bool there) {
  uint4 v = {};
  asm volatile(
      "{ .reg .pred p; setp.ne.u32 p, %5, 0;"
      " @p ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4]; }"
      : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w)
      : "l"(from), "r"(static_cast<uint32_t>(there)));
  return v;
}

// Rows whose places are known: a block brings its first tile into the L2 cache while the kernel before ends.
template <typename V, Chosen chosen, int unroll>
__device__ __forceinline__ void fetch_first_tile(const RowJob& r) {
  if constexpr (chosen == Chosen::none && sizeof(V) == 16) {
    if (!r.ahead) return;
    constexpr int kLineVectors = 128 / sizeof(V);
    const int64_t tile = static_cast<int64_t>(blockDim.x) * unroll;
    const int64_t first = blockIdx.x * tile, end = first + tile < r.vectors ? first + tile : r.vectors;
    for (int64_t at = first + threadIdx.x * kLineVectors; at < end; at += blockDim.x * kLineVectors) {
      const int64_t row = at / r.row_vectors.divisor;
      fetch_line(r.source + row * r.source_stride + (at - row * r.row_vectors.divisor) * sizeof(V));
    }
  }
}

template <typename V, Chosen chosen, int unroll>
__global__ void __launch_bounds__(1024) move_row_job(RowJob r) {
  fetch_first_tile<V, chosen, unroll>(r);
  begin_kernel();
  const int64_t tile = static_cast<int64_t>(blockDim.x) * unroll;
  int64_t first = blockIdx.x * tile;
  int64_t row = first / r.row_vectors.divisor;
  uint32_t column = static_cast<uint32_t>(first % r.row_vectors.divisor);
  // Rows of this thread's vectors, and the chosen rows behind them, of the coming tile.
  int64_t rows[unroll];
  uint32_t columns[unroll];
  uint32_t ids[unroll];
  auto locate = [&] {
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      const uint32_t at = column + threadIdx.x + u * blockDim.x;
      const uint32_t whole = r.row_vectors.quotient(at);
      rows[u] = row + whole;
      columns[u] = at - whole * r.row_vectors.divisor;
      if (chosen != Chosen::none) ids[u] = rows[u] < r.rows ? __ldg(r.index + rows[u]) : 0;
    }
  };
  if (first < r.vectors) locate();
  while (first < r.vectors) {
    V values[unroll];
    V* targets[unroll];
    bool there[unroll];
#pragma unroll
    for (int u = 0; u < unroll; u++) {
      const int64_t from = chosen == Chosen::source ? ids[u] : rows[u];
      const int64_t to = chosen == Chosen::target ? ids[u] : rows[u];
      there[u] = rows[u] < r.rows;
      values[u] = load_once(reinterpret_cast<const V*>(r.source + from * r.source_stride) + columns[u], there[u]);
      targets[u] = reinterpret_cast<V*>(r.target + to * r.target_stride) + columns[u];
    }
    first += gridDim.x * tile;
    row += r.step_rows;
    column += r.step_vectors;
    if (column >= r.row_vectors.divisor) {
      column -= r.row_vectors.divisor;
      row++;
    }
    if (first < r.vectors) locate();
#pragma unroll
    for (int u = 0; u < unroll; u++)
      if (there[u]) *targets[u] = values[u];
  }
}

inline bool over_link(const CudaCall& call, int source, int target) {
  return call.tiers[source] == KVT_DRAM || call.tiers[target] == KVT_DRAM;
}

template <typename V, Chosen chosen, int unroll>
void launch_rows(RowJob r, int64_t row_bytes, int64_t most_blocks, int threads, const CudaCall& call) {
  r.row_vectors = Divisor::of(static_cast<uint32_t>(row_bytes / sizeof(V)));
  r.vectors = r.rows * r.row_vectors.divisor;
  const int64_t tile = static_cast<int64_t>(threads) * unroll;
  const int64_t tiles = (r.vectors + tile - 1) / tile;
  const int64_t blocks = tiles < most_blocks ? tiles : most_blocks;
  r.step_rows = blocks * tile / r.row_vectors.divisor;
  r.step_vectors = static_cast<uint32_t>(blocks * tile % r.row_vectors.divisor);
  launch_kernel(call, move_row_job<V, chosen, unroll>, {static_cast<unsigned>(blocks), static_cast<unsigned>(threads)}, r);
}

template <typename V, Chosen chosen>
void launch_rows_of(RowJob r, int64_t row_bytes, int64_t units, bool link, const CudaCall& call) {
  // Within HBM a block a tile reaches the copy engine's rate (H100: 3.0 TB/s, blocks that stay 2.8). Over the link few
  // multiprocessors suffice and the others stay free: a block of 1024 threads keeps 64 KB in flight, and at 16 of them
  // the link is full (H100, PCIe 5). Short rows wait for address translation and gain up to 32; more ask for more pages at
  // once than are kept at hand: 51,200 rows of 256 bytes of 8.6 GB take 354 us on 32 and 404 on 66, 862 and 1,033 where two
  // such regions take turns, and rows of 64 or 128 of 1 GB lose 2 to 3 %.
  if (units == 0 && !link) {
    constexpr unsigned kThreads = 256, kUnroll = 2, kResident = 2048 / kThreads;
    // Where all blocks come up at once: copies of up to 4.5 MB in a row take 0.74 to 0.93 of the time (H100); of 18 MB and
    // more, whose first blocks fetched as well, 1.01 to 1.03.
    constexpr int64_t kTileBytes = kThreads * kUnroll * sizeof(V);
    r.ahead = call.behind_kernel && r.rows * row_bytes <= kTileBytes * kResident * call.multiprocessors;
    return launch_rows<V, chosen, kUnroll>(r, row_bytes, INT32_MAX, kThreads, call);
  }
  if (units == 0) units = row_bytes < 512 ? call.multiprocessors / 4 : call.multiprocessors / 8;
  launch_rows<V, chosen, 4>(r, row_bytes, units, 1024, call);
}

// Enqueues the move. Rows that lie one behind the other are one row. `units` = multiprocessors to use, 0 = as many as
// pay; `link`: one side is host memory.
template <Chosen chosen>
kvt_status move_rows_on(const CudaCall& call, const char* name, RowJob r, int64_t row_bytes, int64_t units,
                        bool link) {
  if (r.rows == 0 || row_bytes == 0) return KVT_OK;
  for (const int32_t tier : call.tiers)
    if (tier == KVT_PAGEABLE)
      return fail(KVT_INVALID, "%s: a kernel reads and writes hbm or dram, not pageable memory", name);
  const bool packed = r.source_stride == row_bytes && r.target_stride == row_bytes;
  if (chosen == Chosen::none && packed && r.rows * row_bytes < (int64_t{1} << 30)) {
    row_bytes *= r.rows;
    r.rows = 1;
  }
  const uint64_t alignment = reinterpret_cast<uint64_t>(r.source) | reinterpret_cast<uint64_t>(r.target) |
                             static_cast<uint64_t>(r.source_stride) | static_cast<uint64_t>(r.target_stride) |
                             static_cast<uint64_t>(row_bytes) | 16;
  const int64_t width = static_cast<int64_t>(alignment & (~alignment + 1));
  if (row_bytes / width >= (int64_t{1} << 30)) return fail(KVT_INVALID, "%s: rows must be under %lld bytes", name,
                                                           static_cast<long long>(width << 30));
  if (width == 16) launch_rows_of<uint4, chosen>(r, row_bytes, units, link, call);
  else if (width == 8) launch_rows_of<uint2, chosen>(r, row_bytes, units, link, call);
  else if (width == 4) launch_rows_of<uint32_t, chosen>(r, row_bytes, units, link, call);
  else if (width == 2) launch_rows_of<uint16_t, chosen>(r, row_bytes, units, link, call);
  else launch_rows_of<uint8_t, chosen>(r, row_bytes, units, link, call);
  return after_launch(name);
}

}  // namespace kvt

#endif
