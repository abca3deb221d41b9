// Pages of chosen clusters from a table of descriptors (calls/cluster-table.ts). Descriptors lie anywhere in the table, so
// those of the clusters to come are asked for ahead.
#include <algorithm>

#include "kernel.h"

namespace {

using namespace kvt;

constexpr int64_t kWords = 16;
constexpr uint32_t kInlinePages = 11;
constexpr int64_t kAhead = 12;

struct Descriptor {
  uint32_t pages, last_tokens, start, cached;
  uint32_t page[kInlinePages];
  uint32_t more;
};
static_assert(sizeof(Descriptor) == kWords * sizeof(uint32_t));

struct Entry {
  uint32_t place, tokens, before;
};

// One row of the table and where its entries go.
struct Row {
  const uint64_t* ids;
  const Descriptor* descriptors;
  const uint32_t* more;
  Entry* entries;
  uint32_t* counts;
  int64_t count, room;
  uint32_t page_tokens;

  void look_up() const {
    for (int64_t i = 0; i < std::min(count, kAhead); i++) __builtin_prefetch(descriptors + ids[i]);
    int64_t cached = 0, far = 0;
    uint32_t cached_tokens = 0, far_tokens = 0;
    for (int64_t i = 0; i < count; i++) {
      if (i + kAhead < count) __builtin_prefetch(descriptors + ids[i + kAhead]);
      const Descriptor& d = descriptors[ids[i]];
      if (cached + far + d.pages > room) break;
      if (d.cached != 0) {
        for (uint32_t p = 0; p < d.pages; p++) {
          const uint32_t tokens = p + 1 == d.pages ? d.last_tokens : page_tokens;
          entries[cached++] = {p < kInlinePages ? d.page[p] : more[d.more + p - kInlinePages], tokens, cached_tokens};
          cached_tokens += tokens;
        }
      } else {
        for (uint32_t p = 0; p < d.pages; p++) {
          const uint32_t tokens = p + 1 == d.pages ? d.last_tokens : page_tokens;
          entries[room - ++far] = {d.start + p * page_tokens, tokens, far_tokens};
          far_tokens += tokens;
        }
      }
    }
    counts[0] = static_cast<uint32_t>(cached);
    counts[1] = static_cast<uint32_t>(far);
  }
};

kvt_status cluster_table(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_CLUSTER_TABLE_INT_ROWS);
  const int64_t clusters = call.integer(KVT_CLUSTER_TABLE_INT_CLUSTERS);
  const int64_t count = call.integer(KVT_CLUSTER_TABLE_INT_COUNT);
  const int64_t tokens = call.integer(KVT_CLUSTER_TABLE_INT_PAGE_TOKENS);
  const int64_t id_stride = call.integer(KVT_CLUSTER_TABLE_INT_ID_STRIDE);
  const int64_t more_stride = call.integer(KVT_CLUSTER_TABLE_INT_MORE_STRIDE);
  const int64_t room = call.integer(KVT_CLUSTER_TABLE_INT_ENTRY_STRIDE);
  if (rows < 1 || clusters < 1 || count < 1 || tokens < 1 || room < 1)
    return fail(KVT_INVALID, "cluster-table: expected rows, clusters, count, pageTokens and entryStride 1 or more");
  const uint64_t* ids = call.at<const uint64_t>(KVT_CLUSTER_TABLE_REF_IDS);
  const Descriptor* descriptors = call.at<const Descriptor>(KVT_CLUSTER_TABLE_REF_DESCRIPTORS);
  const uint32_t* more = call.at<const uint32_t>(KVT_CLUSTER_TABLE_REF_MORE);
  Entry* entries = call.at<Entry>(KVT_CLUSTER_TABLE_REF_ENTRIES);
  uint32_t* counts = call.at<uint32_t>(KVT_CLUSTER_TABLE_REF_COUNTS);
  call.threads.run(rows, [=](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++)
      Row{ids + row * id_stride,  descriptors + row * clusters, more + row * more_stride, entries + row * room,
          counts + 2 * row,       count,                        room,                     static_cast<uint32_t>(tokens)}
          .look_up();
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_CLUSTER_TABLE, cluster_table);

}  // namespace
