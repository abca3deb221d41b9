// What gather and scatter share: rows of a pool that an index chooses, and rows one behind the other on the other
// side; moved by a kernel that addresses both, by copies, or by the host (calls/gather.ts, calls/scatter.ts).
#ifndef KVTIER_CUDA_CHOSEN_ROWS_H
#define KVTIER_CUDA_CHOSEN_ROWS_H

#include <algorithm>

#include "../cpu/packing.h"
#include "dma.h"
#include "rows.h"

namespace kvt {

// Arguments of both stand at the same places.
constexpr bool same_place(int of_gather, int of_scatter) { return of_gather == of_scatter; }
static_assert(same_place(KVT_GATHER_REF_SOURCE, KVT_SCATTER_REF_SOURCE) &&
              same_place(KVT_GATHER_REF_INDEX, KVT_SCATTER_REF_INDEX) &&
              same_place(KVT_GATHER_REF_TARGET, KVT_SCATTER_REF_TARGET) &&
              same_place(KVT_GATHER_REF_STAGING, KVT_SCATTER_REF_STAGING) &&
              same_place(KVT_GATHER_INT_SOURCE_STRIDE, KVT_SCATTER_INT_SOURCE_STRIDE) &&
              same_place(KVT_GATHER_INT_TARGET_STRIDE, KVT_SCATTER_INT_TARGET_STRIDE) &&
              same_place(KVT_GATHER_INT_MODE, KVT_SCATTER_INT_MODE) &&
              same_place(KVT_GATHER_INT_UNITS, KVT_SCATTER_INT_UNITS));

inline bool on_host(int32_t tier) { return tier == KVT_DRAM || tier == KVT_PAGEABLE; }

inline Rows host_rows(void* memory, uint64_t bytes, int64_t stride, const uint32_t* index) {
  return {static_cast<char*>(memory), nullptr, 0, bytes, stride, index};
}

// The host packs the chosen rows of a gather piece by piece while the copy engine sends what is packed.
inline kvt_status gather_staged(const CudaCall& call, const char* name, const RowJob& job, int64_t row_bytes,
                                const Rows& pool, char* staging) {
  const PackingPlan plan = PackingPlan::of(job.rows, row_bytes, kHostPieces);
  kvt_status status = call.on_host(
      [=](const HostSide& host) { return pack_rows(name, plan, pool, staging, host.threads, host.done); });
  for (int piece = 0; piece < plan.pieces() && status == KVT_OK; piece++) {
    status = call.after_host(piece);
    if (status == KVT_OK)
      status = copy_2d(call, name, job.target + plan.first_row[piece] * job.target_stride, job.target_stride,
                       staging + plan.place_of(piece), row_bytes, row_bytes, plan.rows_of(piece));
  }
  return status;
}

// Fewer bytes are distributed before other threads have seen that there is something to do, and don't wait for packing.
constexpr int64_t kAloneBytes = 256 << 10;

// The host distributes the rows of a scatter once they have come.
inline kvt_status scatter_staged(const CudaCall& call, const char* name, const RowJob& job, int64_t row_bytes,
                                 const Rows& pool, char* staging) {
  kvt_status status = copy_2d(call, name, staging, row_bytes, job.source, job.source_stride, row_bytes, job.rows);
  if (status != KVT_OK) return status;
  const Rows come = host_rows(staging, static_cast<uint64_t>(job.rows * row_bytes), row_bytes, nullptr);
  status = call.on_host([=, rows = job.rows](const HostSide& host) {
    static const std::unique_ptr<Threads> alone = make_threads(1);
    Threads& threads = rows * row_bytes <= kAloneBytes ? *alone : host.threads;
    return move_rows(name, come, pool, rows, row_bytes, threads, threads);
  });
  return status == KVT_OK ? call.after_host(0) : status;
}

template <Chosen chosen>
kvt_status move_staged(const CudaCall& call, const char* name, const RowJob& job, int64_t row_bytes, const Rows& pool) {
  const int pool_ref = chosen == Chosen::source ? KVT_GATHER_REF_SOURCE : KVT_GATHER_REF_TARGET;
  auto* staging = static_cast<char*>(call.pointers[KVT_GATHER_REF_STAGING]);
  if (!on_host(call.tiers[KVT_GATHER_REF_STAGING]) || !on_host(call.tiers[pool_ref]))
    return fail(KVT_INVALID, "%s: mode staged wants staging and the pool of rows in dram", name);
  const Rows packed = host_rows(staging, call.bytes[KVT_GATHER_REF_STAGING], row_bytes, nullptr);
  if (const kvt_status status = check_rows(name, "staging", packed, job.rows, row_bytes)) return status;
  return (chosen == Chosen::source ? gather_staged : scatter_staged)(call, name, job, row_bytes, pool, staging);
}

template <Chosen chosen>
kvt_status move_chosen(const CudaCall& call, const char* name) {
  const int64_t row_bytes = call.integer(KVT_GATHER_INT_ROW_BYTES);
  const RowJob job{call.at<const uint8_t>(KVT_GATHER_REF_SOURCE), call.at<uint8_t>(KVT_GATHER_REF_TARGET),
                   call.at<const uint32_t>(KVT_GATHER_REF_INDEX), call.integer(KVT_GATHER_INT_ROWS),
                   call.integer(KVT_GATHER_INT_SOURCE_STRIDE),    call.integer(KVT_GATHER_INT_TARGET_STRIDE)};
  const int64_t mode = call.integer(KVT_GATHER_INT_MODE);
  if (job.rows == 0 || row_bytes == 0) return KVT_OK;
  if (mode == KVT_ROWS_KERNEL)
    return move_rows_on<chosen>(call, name, job, row_bytes, call.integer(KVT_GATHER_INT_UNITS),
                                over_link(call, KVT_GATHER_REF_SOURCE, KVT_GATHER_REF_TARGET));
  if (!on_host(call.tiers[KVT_GATHER_REF_INDEX]))
    return fail(KVT_INVALID, "%s: modes 1 to 3 read the index on the host; expected it in dram", name);
  const bool source = chosen == Chosen::source;
  const int pool_ref = source ? KVT_GATHER_REF_SOURCE : KVT_GATHER_REF_TARGET;
  const Rows pool = host_rows(call.pointers[pool_ref], call.bytes[pool_ref],
                              source ? job.source_stride : job.target_stride, job.index);
  // The host moves these once they are chosen, and looks at each then.
  if (mode == KVT_ROWS_STAGED) return move_staged<chosen>(call, name, job, row_bytes, pool);
  const auto row = [&](int64_t i) {
    return RowMove{job.target + (source ? i : job.index[i]) * job.target_stride,
                   job.source + (source ? job.index[i] : i) * job.source_stride};
  };
  if (mode != KVT_ROWS_DMA && mode != KVT_ROWS_BATCH)
    return fail(KVT_INVALID, "%s: mode %lld is none of 0 to 3", name, static_cast<long long>(mode));
  if (call.recording)
    return fail(KVT_UNSUPPORTED, "%s: a graph can't hold copies of rows that are chosen anew each time", name);
  // Copies are named one by one, so the choice of rows must have been made.
  if (const kvt_status chosen_by_now = call.await_choice()) return chosen_by_now;
  if (const kvt_status status = check_rows(name, source ? "source" : "target", pool, job.rows, row_bytes)) return status;
  if (mode == KVT_ROWS_DMA) return dma_rows(call, name, job.rows, row_bytes, row);
  return dma_batch(call, name, job.rows, row_bytes, row);
}

}  // namespace kvt

#endif
