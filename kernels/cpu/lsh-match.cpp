// Keys that share a query's code in enough tables (calls/lsh-match.ts). A query's lists lie anywhere in memory, so those of
// the tables to come are asked for ahead; its counts, one byte a key, stay in the thread's cache.
#include <atomic>
#include <cstring>
#include <new>

#include "kernel.h"

namespace {

using namespace kvt;

// Tables by which lists are asked for ahead of their use, and bounds of lists ahead of that.
constexpr int64_t kTablesAhead = 8;
constexpr int64_t kLinesAhead = 4;

// Counts of a thread; the memory is kept from call to call.
struct Counts {
  uint64_t* words = nullptr;
  int64_t room = 0;
  ~Counts() { delete[] words; }

  // One byte a key; null where there is no memory.
  uint8_t* of(int64_t keys) {
    const int64_t count = (keys + 7) / 8;
    if (count > room) {
      delete[] words;
      words = new (std::nothrow) uint64_t[count];
      room = words == nullptr ? 0 : count;
    }
    return reinterpret_cast<uint8_t*>(words);
  }
};

struct Lookup {
  const uint16_t* codes;
  const uint32_t *starts, *postings;
  int64_t group, count, tables, lists, buckets, code_stride, collisions;

  // Of the table-th list of a query's row.
  int64_t list_of(int64_t table, int64_t query) const { return query / group % lists * tables + table; }

  const uint32_t* bounds(int64_t table, int64_t query) const {
    const int64_t code = (query / group * tables + table) * code_stride + query % group;
    return starts + list_of(table, query) * (buckets + 1) + codes[code];
  }

  void count_tables(int64_t query, uint8_t* seen) const {
    for (int64_t table = 0; table < tables; table++) {
      if (table + 2 * kTablesAhead < tables) __builtin_prefetch(bounds(table + 2 * kTablesAhead, query));
      if (table + kTablesAhead < tables) {
        const uint32_t* coming = bounds(table + kTablesAhead, query);
        const uint32_t* list = postings + list_of(table + kTablesAhead, query) * count;
        for (int64_t line = 0; line < kLinesAhead && coming[0] + 16 * line < coming[1]; line++)
          __builtin_prefetch(list + coming[0] + 16 * line);
      }
      const uint32_t* now = bounds(table, query);
      const uint32_t* list = postings + list_of(table, query) * count;
      for (uint32_t at = now[0]; at < now[1]; at++) {
        uint8_t& times = seen[list[at]];
        times = static_cast<uint8_t>(times < collisions ? times + 1 : times);
      }
    }
  }

  // Keys counted often enough, ascending. Eight keys are passed over at a time.
  uint32_t collect(const uint64_t* words, uint32_t* ids) const {
    const uint64_t wanted = collisions == 2 ? 0x0202020202020202u : 0x0101010101010101u;
    uint32_t* next = ids;
    for (int64_t at = 0; at < (count + 7) / 8; at++) {
      for (uint64_t found = words[at] & wanted; found != 0; found &= found - 1)
        *next++ = static_cast<uint32_t>(8 * at + __builtin_ctzll(found) / 8);
    }
    return static_cast<uint32_t>(next - ids);
  }
};

kvt_status lsh_match(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_LSH_MATCH_INT_ROWS);
  const int64_t group = call.integer(KVT_LSH_MATCH_INT_GROUP);
  const int64_t count = call.integer(KVT_LSH_MATCH_INT_COUNT);
  const int64_t tables = call.integer(KVT_LSH_MATCH_INT_TABLES);
  const int64_t hashes = call.integer(KVT_LSH_MATCH_INT_HASHES);
  const int64_t collisions = call.integer(KVT_LSH_MATCH_INT_COLLISIONS);
  const int64_t lists = call.integer(KVT_LSH_MATCH_INT_LISTS);
  const int64_t code_stride = call.integer(KVT_LSH_MATCH_INT_CODE_STRIDE);
  const int64_t id_stride = call.integer(KVT_LSH_MATCH_INT_ID_STRIDE);
  if (rows < 1 || group < 1 || count < 1 || tables < 1 || lists < 1 || hashes < 1 || hashes > 16)
    return fail(KVT_INVALID, "lsh-match: expected rows, group, count, tables and lists 1 or more and hashes 1 to 16");
  if (collisions < 1 || collisions > 2) return fail(KVT_INVALID, "lsh-match: expected collisions 1 or 2");
  const uint16_t* codes = call.at<const uint16_t>(KVT_LSH_MATCH_REF_CODES);
  const uint32_t* starts = call.at<const uint32_t>(KVT_LSH_MATCH_REF_STARTS);
  const uint32_t* postings = call.at<const uint32_t>(KVT_LSH_MATCH_REF_POSTINGS);
  uint32_t* ids = call.at<uint32_t>(KVT_LSH_MATCH_REF_IDS);
  uint32_t* counts = call.at<uint32_t>(KVT_LSH_MATCH_REF_COUNTS);
  const Lookup lookup{codes,  starts, postings,              group,       count,
                      tables, lists,  int64_t{1} << hashes, code_stride, collisions};
  std::atomic<bool> starved = false;
  call.threads.run(rows * group, [&](int64_t from, int64_t to) {
    static thread_local Counts counted;
    uint8_t* seen = counted.of(count);
    if (seen == nullptr) {
      starved = true;
      return;
    }
    for (int64_t query = from; query < to; query++) {
      std::memset(seen, 0, 8 * static_cast<size_t>((count + 7) / 8));
      lookup.count_tables(query, seen);
      counts[query] = lookup.collect(counted.words, ids + query * id_stride);
    }
  });
  if (starved) return fail(KVT_OUT_OF_HOST_MEMORY, "lsh-match: no memory for the counts of a thread");
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_LSH_MATCH, lsh_match);

}  // namespace
