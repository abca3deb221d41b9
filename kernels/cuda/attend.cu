// Decode attention over paged KV; arguments in calls/attend.ts, the kernel in attend-kernel.cuh.
#include <algorithm>

#include "attend-launch.cuh"

namespace {

using namespace kvt;

// Counters of rows, pools and blocks, one set a stream, so that calls in flight at once do not meet; each call leaves them
// zero.
struct Counters {
  Count rows[kAttendCounters];
  uint32_t taken[kMostPools * kMostHeadTiles];
  uint32_t blocks_done;
};
__device__ Counters all_counters[KVT_STREAMS];

// log2 of a group's size; all of a page is one group when the size is 0.
int group_shift(int size) { return size == 0 ? 31 : __builtin_ctz(static_cast<unsigned>(size)); }

PageShape shape_of(const PageFormat& format, const PageLayout& layout, int dim) {
  return {dim,
          format.keys.row_bytes(dim),
          format.values.row_bytes(dim),
          layout.values,
          layout.key_scales,
          layout.value_scales,
          group_shift(format.keys.group_tokens),
          group_shift(format.values.group_channels),
          2 * format.keys.groups_across(dim),
          2 * format.values.groups_across(dim)};
}

// Whether pools of blocks share the rows: where a row has blocks for one or more, counting its tokens costs less than what
// that gains; with fewer, where blocks have enough to read (the table says how much that is at most).
bool forms_pools(const CudaCall& call, const AttendArguments& a, uint32_t units, uint32_t warps) {
  if (a.rows * kBlocksOfPool <= units) return true;
  const uint64_t tiles = call.bytes[KVT_ATTEND_REF_TABLE] / sizeof(uint32_t) * a.page_tokens / 16;
  const uint32_t least = least_of_pools(a.rows, units, warps, 16 * (a.shape.key_row + a.shape.value_row));
  return a.rows * kLeastBlocksOfPool <= 2 * units && tiles >= uint64_t{least} * units;
}

// Warps a block: what the registers of a multiprocessor hold.
template <typename Number>
kvt_status attend_raw(const CudaCall& call, const AttendArguments& a, int units) {
  const int dim = a.shape.dim;
  const bool wide = a.group > 8;
  if (dim == 64 && wide) return launch_attend<RawStore<Number, 64, true>, 2, 12>(call, a, units);
  if (dim == 64) return launch_attend<RawStore<Number, 64, true>, 1, 16>(call, a, units);
  if (dim == 128 && wide) return launch_attend<RawStore<Number, 128, true>, 2, 8>(call, a, units);
  const bool pools = forms_pools(call, a, units, dim == 128 ? 12 : 8);
  if (dim == 128 && pools)
    return launch_attend<RawStore<Number, 128, true>, 1, 12, true>(call, a, units);
  if (dim == 128) return launch_attend<RawStore<Number, 128, true>, 1, 12>(call, a, units);
  if (dim < 128) return launch_attend<RawStore<Number, 128, false>, 1, 12>(call, a, units);
  // Parts of pools are merged by one block.
  if (dim == 256 && pools && !merges_in_groups<256>(units / a.rows, std::min(a.group, 8), 8 * 32))
    return launch_attend<RawStore<Number, 256, true>, 1, 8, true>(call, a, units);
  if (dim == 256) return launch_attend<RawStore<Number, 256, true>, 1, 8>(call, a, units);
  return launch_attend<RawStore<Number, 256, false>, 1, 8>(call, a, units);
}

kvt_status fill_arguments(const CudaCall& call, AttendArguments& a) {
  a.q = call.at<const uint16_t>(KVT_ATTEND_REF_Q);
  a.pool = call.at<const char>(KVT_ATTEND_REF_POOL);
  a.table = call.at<const uint32_t>(KVT_ATTEND_REF_TABLE);
  a.offsets = call.at<const uint32_t>(KVT_ATTEND_REF_OFFSETS);
  a.tokens = call.at<const uint32_t>(KVT_ATTEND_REF_TOKENS);
  a.mask = call.at<const uint32_t>(KVT_ATTEND_REF_MASK);
  a.out = call.at<void>(KVT_ATTEND_REF_OUT);
  a.k = call.at<const uint4>(KVT_ATTEND_REF_K);
  a.v = call.at<const uint4>(KVT_ATTEND_REF_V);
  a.slots = call.at<const uint32_t>(KVT_ATTEND_REF_SLOTS);
  a.logits = call.at<float>(KVT_ATTEND_REF_LOGITS);
  const auto off = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 != 0; };
  if (off(a.pool) || off(a.q) || off(a.out) || off(a.k) || off(a.v))
    return fail(KVT_INVALID, "attend: q, pool, out, k and v must lie at multiples of 16 bytes");
  const int64_t format = call.integer(KVT_ATTEND_INT_FORMAT);
  const bool appends = a.k != nullptr || a.v != nullptr || a.slots != nullptr, raw = format == FORMAT_BF16 || format == FORMAT_F16;
  if (appends && !(raw && a.k != nullptr && a.v != nullptr && a.slots != nullptr))
    return fail(KVT_INVALID, "attend: new rows are k, v and slots together, for raw pages");
  a.partials = static_cast<float*>(call.scratch);
  void* counters = nullptr;
  const cudaError_t found = cudaGetSymbolAddress(&counters, all_counters);
  if (found != cudaSuccess) return fail(KVT_FAULT, "attend: %s", cudaGetErrorString(found));
  Counters* const own = static_cast<Counters*>(counters) + call.call.stream;
  a.counters = own->rows;
  a.taken = own->taken;
  a.blocks_done = &own->blocks_done;
  a.rows = static_cast<uint32_t>(call.integer(KVT_ATTEND_INT_ROWS));
  a.group = static_cast<int>(call.integer(KVT_ATTEND_INT_GROUP));
  a.page_tokens = static_cast<uint32_t>(call.integer(KVT_ATTEND_INT_PAGE_TOKENS));
  a.page_tiles = Divisor::of(a.page_tokens < 32 ? 1 : a.page_tokens / 32);
  a.page_stride = call.integer(KVT_ATTEND_INT_PAGE_STRIDE);
  const double scale = call.real(KVT_ATTEND_REAL_SCALE);
  const double root = sqrt(static_cast<double>(call.integer(KVT_ATTEND_INT_HEAD_DIM)));
  a.scale_log2 = static_cast<float>((scale == 0 ? 1 / root : scale) * 1.4426950408889634);
  a.q_f16 = static_cast<int>(call.integer(KVT_ATTEND_INT_Q_TYPE));
  a.out_type = static_cast<int>(call.integer(KVT_ATTEND_INT_OUT_TYPE));
  a.parts = static_cast<int>(call.integer(KVT_ATTEND_INT_PARTS));
  a.part = static_cast<int>(call.integer(KVT_ATTEND_INT_PART));
  a.next_ahead = call.next_ahead;
  if (call.behind_kernel && call.tiers[KVT_ATTEND_REF_POOL] == KVT_HBM) {
    const auto number = [](uint64_t count) { return static_cast<uint32_t>(std::min<uint64_t>(count, UINT32_MAX)); };
    a.ahead_pages = number(call.bytes[KVT_ATTEND_REF_POOL] / a.page_stride);
    a.ahead_entries = a.ahead_pages > 0 ? number(call.bytes[KVT_ATTEND_REF_TABLE] / sizeof(uint32_t)) : 0;
  }
  return KVT_OK;
}

kvt_status attend(const CudaCall& call) {
  const int dim = static_cast<int>(call.integer(KVT_ATTEND_INT_HEAD_DIM));
  const int64_t tokens = call.integer(KVT_ATTEND_INT_PAGE_TOKENS);
  const int id = static_cast<int>(call.integer(KVT_ATTEND_INT_FORMAT));
  const int64_t rows = call.integer(KVT_ATTEND_INT_ROWS);
  const int64_t group = call.integer(KVT_ATTEND_INT_GROUP);
  if (rows < 1 || group < 1 || tokens < 1)
    return fail(KVT_INVALID, "attend: rows, group and pageTokens must be 1 or more");
  if (dim < 8 || dim % 8 != 0 || dim > 256)
    return fail(KVT_UNSUPPORTED, "attend: headDim is %d, expected a multiple of 8 up to 256", dim);
  if (id < 0 || id >= FORMATS) return fail(KVT_INVALID, "attend: format is %d, expected 0 to %d", id, FORMATS - 1);
  const int64_t stride = call.integer(KVT_ATTEND_INT_PAGE_STRIDE);
  const PageFormat format = format_of(id);
  const PageLayout layout = layout_of(format, dim, tokens);
  if (stride % 16 != 0 || stride < layout.bytes)
    return fail(KVT_INVALID, "attend: pageStride is %lld, expected a multiple of 16, %lld or more",
                static_cast<long long>(stride), static_cast<long long>(layout.bytes));
  AttendArguments a{};
  const kvt_status filled = fill_arguments(call, a);
  if (filled != KVT_OK) return filled;
  a.shape = shape_of(format, layout, dim);
  const int64_t units = call.integer(KVT_ATTEND_INT_UNITS);
  const int use = units > 0 && units < call.multiprocessors ? static_cast<int>(units) : call.multiprocessors;
  if (a.logits != nullptr) return attend_logits(call, a, use, id);
  if (id == FORMAT_BF16) return attend_raw<Bf16>(call, a, use);
  if (id == FORMAT_F16) return attend_raw<F16>(call, a, use);
  return attend_coded(call, a, use, id);
}

KVT_CUDA_KERNEL_AHEAD(KVT_ATTEND, attend);

}  // namespace
