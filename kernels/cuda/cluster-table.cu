// Pages of chosen clusters from a table of descriptors (calls/cluster-table.ts): a block a row, a thread a cluster; sums over
// the clusters before say where a cluster's entries begin.
#include "block-sum.h"
#include "launch.h"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
constexpr int kWords = 16;
constexpr uint32_t kInlinePages = 11;

struct ClusterTable {
  const uint64_t* ids;
  const uint32_t* descriptors;
  const uint32_t* more;
  uint32_t* entries;
  uint32_t* counts;
  int64_t clusters, id_stride, more_stride;
  int count;
  uint32_t page_tokens, room;
};

__global__ void __launch_bounds__(kThreads) look_up(const ClusterTable p) {
  begin_kernel();
  enum { kPages, kCached, kTokens, kCachedTokens, kSums };
  __shared__ uint32_t sums[kSums][kMostWarps];
  __shared__ uint32_t totals[kSums];
  __shared__ uint32_t kept;
  if (threadIdx.x == 0) kept = 0;
  const int64_t row = blockIdx.x;
  uint32_t* const entries = p.entries + 3 * row * p.room;
  const uint32_t* const more = p.more + row * p.more_stride;
  uint32_t base[kSums] = {};
  for (int first = 0; first < p.count; first += kThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    const bool some = i < p.count;
    const uint32_t* d = p.descriptors + (row * p.clusters + (some ? p.ids[row * p.id_stride + i] : 0)) * kWords;
    uint32_t pages = some ? d[0] : 0;
    const uint32_t last = some ? d[1] : 0;
    const bool cached = some && d[3] != 0;
    uint32_t before[kSums], own[kSums];
    own[kPages] = pages;
    before[kPages] = base[kPages] + sum_before(own[kPages], sums[kPages]);
    // Sums never fall: what finds no room, nothing behind it finds.
    if (before[kPages] + pages > p.room) pages = 0;
    own[kTokens] = pages == 0 ? 0 : (pages - 1) * p.page_tokens + last;
    own[kCached] = cached ? pages : 0;
    own[kCachedTokens] = cached ? own[kTokens] : 0;
    for (int s = kCached; s < kSums; s++) before[s] = base[s] + sum_before(own[s], sums[s]);
    // Pages without room count on, so that all behind them are left out; what was kept is a maximum.
    if (pages > 0) atomicMax(&kept, before[kPages] + pages);
    if (threadIdx.x == kThreads - 1)
      for (int s = 0; s < kSums; s++) totals[s] = before[s] + own[s];
    const uint32_t far = before[kPages] - before[kCached];
    uint32_t sum = cached ? before[kCachedTokens] : before[kTokens] - before[kCachedTokens];
    for (uint32_t page = 0; page < pages; page++) {
      const uint32_t tokens = page + 1 == pages ? last : p.page_tokens;
      uint32_t* entry = entries + 3 * (cached ? before[kCached] + page : p.room - 1 - far - page);
      entry[0] = !cached ? d[2] + page * p.page_tokens : page < kInlinePages ? d[4 + page] : more[d[15] + page - kInlinePages];
      entry[1] = tokens;
      entry[2] = sum;
      sum += tokens;
    }
    __syncthreads();
    for (int s = 0; s < kSums; s++) base[s] = totals[s];
  }
  if (threadIdx.x != 0) return;
  p.counts[2 * row] = base[kCached];
  p.counts[2 * row + 1] = kept - base[kCached];
}

kvt_status cluster_table(const CudaCall& call) {
  const int64_t rows = call.integer(KVT_CLUSTER_TABLE_INT_ROWS);
  const int64_t count = call.integer(KVT_CLUSTER_TABLE_INT_COUNT);
  const int64_t tokens = call.integer(KVT_CLUSTER_TABLE_INT_PAGE_TOKENS);
  const int64_t room = call.integer(KVT_CLUSTER_TABLE_INT_ENTRY_STRIDE);
  ClusterTable p{};
  p.clusters = call.integer(KVT_CLUSTER_TABLE_INT_CLUSTERS);
  p.id_stride = call.integer(KVT_CLUSTER_TABLE_INT_ID_STRIDE);
  p.more_stride = call.integer(KVT_CLUSTER_TABLE_INT_MORE_STRIDE);
  if (rows < 1 || p.clusters < 1 || count < 1 || count > (1 << 30) || tokens < 1 || room < 1 || room > (1 << 30))
    return fail(KVT_INVALID, "cluster-table: expected rows, clusters, count, pageTokens and entryStride 1 or more");
  p.ids = call.at<const uint64_t>(KVT_CLUSTER_TABLE_REF_IDS);
  p.descriptors = call.at<const uint32_t>(KVT_CLUSTER_TABLE_REF_DESCRIPTORS);
  p.more = call.at<const uint32_t>(KVT_CLUSTER_TABLE_REF_MORE);
  p.entries = call.at<uint32_t>(KVT_CLUSTER_TABLE_REF_ENTRIES);
  p.counts = call.at<uint32_t>(KVT_CLUSTER_TABLE_REF_COUNTS);
  p.count = static_cast<int>(count);
  p.page_tokens = static_cast<uint32_t>(tokens);
  p.room = static_cast<uint32_t>(room);
  launch_kernel(call, look_up, {static_cast<unsigned>(rows), kThreads}, p);
  return after_launch("cluster-table");
}

KVT_CUDA_KERNEL(KVT_CLUSTER_TABLE, cluster_table);

}  // namespace
