// Decode attention over paged KV on the CPU; arguments in calls/attend.ts. Rows are cut into runs of tokens that
// threads share; a run is done in tiles that stay in the L1, and whoever is done with the last run of a row merges them.
#include <memory>

#include "append-rows.h"
#include "attend-tile.h"

namespace {

using namespace kvt;

// Tokens of a run at least: what a run adds (its queries widened, its sums merged) stays small beside it.
constexpr int64_t kLeastRun = 32;
constexpr int64_t kRunsAThread = 8;

// Tokens [from, to) of a row, in tiles of equally many: a tile asks for as many tokens of the next as it has.
struct Run {
  int64_t row, from, to, tile;

  int64_t end_at(int64_t first) const { return std::min(to, first + tile); }
};

void begin_sums(const Attention& a, int64_t row, const Scratch& scratch) {
  const uint16_t* queries = reinterpret_cast<const uint16_t*>(a.q) + row * a.group * a.dim;
  for (int h = 0; h < a.group; h++) {
    std::fill(scratch.q + h * a.width + a.dim, scratch.q + (h + 1) * a.width, 0.0f);
    for (int d = 0; d < a.dim; d++)
      scratch.q[h * a.width + place_in(a, d)] = of_number(queries[h * a.dim + d], a.q_f16) * a.scale_log2;
  }
  const int64_t heads = heads_of(a);
  const Sums& sums = scratch.sums;
  std::fill(sums.o, sums.o + heads * a.width, 0.0f);
  std::fill(sums.most, sums.most + heads, -INFINITY);
  std::fill(sums.sum, sums.sum + heads, 0.0f);
}

void attend_one(const Attention& a, const Tile& now, const Tile& next, const Scratch& scratch) {
  if (reads_direct(a)) return attend_tile(a, now, next, Direct{now.keys}, Direct{now.values}, scratch);
  for (int t = 0; t < now.tokens; t++) {
    for (float* to_pad : {scratch.k + t * a.width, scratch.v + t * a.width})
      std::fill(to_pad + a.dim, to_pad + a.width, 0.0f);
    decode_row(a.keys, now.pages[t], now.places[t], scratch.k + t * a.width);
    decode_row(a.values, now.pages[t], now.places[t], scratch.v + t * a.width);
  }
  attend_tile(a, now, next, Decoded{scratch.k, a.width}, Decoded{scratch.v, a.width}, scratch);
}

// A run, and where it ends the first tile of the run after it (none: no tokens), which is asked for meanwhile: short
// runs would wait for their first tokens each. The current one of `tiles` is the run's first, then that of the one after it.
void attend_run(const Attention& a, const Run& run, const Run& after, const Scratch& scratch, TilePair& tiles) {
  begin_sums(a, run.row, scratch);
  for (int64_t first = run.from; first < run.to; first += run.tile) {
    Tile &now = tiles.now(), &next = tiles.next();
    next.tokens = 0;
    const bool goes_on = first + run.tile < run.to;
    const Run& then = goes_on ? run : after;
    const int64_t at = goes_on ? first + run.tile : after.from;
    if (at < then.to && !locate(a, then.row, at, then.end_at(at), next)) return;
    attend_one(a, now, next, scratch);
    // Of a longer one the rest.
    coming(a, next, now.tokens + now.tokens % 2).fetch_all();
    tiles.turn();
  }
}

void write_head(const Attention& a, int64_t row, int h, const float* o, float most, float sum) {
  const int64_t head = row * a.group + h;
  if (a.parts > 0) {
    float* to = static_cast<float*>(a.out) + (head * a.parts + a.part) * (a.dim + 2);
    for (int d = 0; d < a.dim; d++) to[d] = o[place_in(a, d)];
    to[a.dim] = sum > 0 ? most * 0.693147180559945f : 0;
    to[a.dim + 1] = sum;
    return;
  }
  const float by = sum > 0 ? 1 / sum : 0;
  for (int d = 0; d < a.dim; d++) {
    const float value = o[place_in(a, d)] * by;
    if (a.out_type == 0) static_cast<float*>(a.out)[head * a.dim + d] = value;
    else static_cast<uint16_t*>(a.out)[head * a.dim + d] = number_of(value, a.out_type == 2);
  }
}

void write_row(const Attention& a, int64_t row, const Sums& sums) {
  for (int h = 0; h < a.group; h++) write_head(a, row, h, sums.o + h * a.width, sums.most[h], sums.sum[h]);
}

// Merges the runs of a row into the first and writes the result.
void finish_row(const Attention& a, float* memory, int64_t row, int64_t first, int64_t runs) {
  const Sums all = sums_at(a, memory, first);
  for (int h = 0; h < a.group; h++) {
    for (int64_t run = first + 1; run < first + runs; run++) {
      const Sums part = sums_at(a, memory, run);
      if (!(part.sum[h] > 0)) continue;
      const float top = std::max(all.most[h], part.most[h]);
      const Lanes powers = exp2_of(Lanes{all.most[h] - top, part.most[h] - top});
      const float keep = all.sum[h] > 0 ? powers[0] : 0, by = powers[1];
      for (int d = 0; d < a.dim; d++)
        all.o[h * a.width + d] = all.o[h * a.width + d] * keep + part.o[h * a.width + d] * by;
      all.sum[h] = all.sum[h] * keep + part.sum[h] * by;
      all.most[h] = top;
    }
  }
  write_row(a, row, all);
}

// Offsets and counts are data: what they say must lie in the table.
kvt_status check_rows(const CpuCall& call, const Attention& a) {
  const uint64_t entries = a.offsets[a.rows];
  if (4 * entries > call.bytes[KVT_ATTEND_REF_TABLE] || (a.mask && 4 * entries > call.bytes[KVT_ATTEND_REF_MASK]))
    return fail(KVT_INVALID, "attend: offsets end at entry %llu, past the table",
                static_cast<unsigned long long>(entries));
  for (int64_t row = 0; row < a.rows; row++)
    if (a.offsets[row] > a.offsets[row + 1] || a.tokens[row] > (a.offsets[row + 1] - a.offsets[row]) * a.page_tokens)
      return fail(KVT_INVALID, "attend: row %lld has %u tokens and %lld pages of %lld", static_cast<long long>(row),
                  a.tokens[row], static_cast<long long>(a.offsets[row + 1]) - a.offsets[row],
                  static_cast<long long>(a.page_tokens));
  return KVT_OK;
}

kvt_status read_arguments(const CpuCall& call, Attention& a) {
  a.rows = call.integer(KVT_ATTEND_INT_ROWS);
  a.group = static_cast<int>(call.integer(KVT_ATTEND_INT_GROUP));
  a.dim = static_cast<int>(call.integer(KVT_ATTEND_INT_HEAD_DIM));
  a.page_tokens = call.integer(KVT_ATTEND_INT_PAGE_TOKENS);
  a.page_stride = call.integer(KVT_ATTEND_INT_PAGE_STRIDE);
  a.format = static_cast<int>(call.integer(KVT_ATTEND_INT_FORMAT));
  if (a.rows < 1 || a.group < 1 || a.group > 32 || a.page_tokens < 1)
    return fail(KVT_INVALID, "attend: rows and pageTokens must be 1 or more, group 1 to 32");
  if (a.dim < 8 || a.dim % 8 != 0) return fail(KVT_INVALID, "attend: headDim is %d, expected a multiple of 8", a.dim);
  if (a.format < 0 || a.format >= FORMATS)
    return fail(KVT_INVALID, "attend: format is %d, expected 0 to %d", a.format, FORMATS - 1);
  const int64_t bytes = layout_of(format_of(a.format), a.dim, a.page_tokens).bytes;
  if (a.page_stride < bytes || a.page_stride % 2 != 0)
    return fail(KVT_INVALID, "attend: pageStride is %lld, expected an even number, %lld or more",
                static_cast<long long>(a.page_stride), static_cast<long long>(bytes));
  a.q = call.at<const uint8_t>(KVT_ATTEND_REF_Q);
  a.pool = call.at<const uint8_t>(KVT_ATTEND_REF_POOL);
  a.table = call.at<const uint32_t>(KVT_ATTEND_REF_TABLE);
  a.offsets = call.at<const uint32_t>(KVT_ATTEND_REF_OFFSETS);
  a.tokens = call.at<const uint32_t>(KVT_ATTEND_REF_TOKENS);
  a.mask = call.at<const uint32_t>(KVT_ATTEND_REF_MASK);
  a.out = call.at<void>(KVT_ATTEND_REF_OUT);
  a.logits = call.at<float>(KVT_ATTEND_REF_LOGITS);
  a.width = static_cast<int>(padded(a.dim, 2 * kPad));
  a.out_type = static_cast<int>(call.integer(KVT_ATTEND_INT_OUT_TYPE));
  a.parts = static_cast<int>(call.integer(KVT_ATTEND_INT_PARTS));
  a.part = static_cast<int>(call.integer(KVT_ATTEND_INT_PART));
  a.q_f16 = call.integer(KVT_ATTEND_INT_Q_TYPE) == 1;
  const double scale = call.real(KVT_ATTEND_REAL_SCALE);
  const double root = std::sqrt(static_cast<double>(a.dim));
  a.scale_log2 = static_cast<float>((scale == 0 ? 1 / root : scale) * 1.4426950408889634);
  a.keys = side_of(a.format, a.dim, a.page_tokens, false);
  a.values = side_of(a.format, a.dim, a.page_tokens, true);
  const uint64_t pool = call.bytes[KVT_ATTEND_REF_POOL], page = static_cast<uint64_t>(bytes);
  a.pages = pool < page ? 0 : (pool - page) / static_cast<uint64_t>(a.page_stride) + 1;
  return check_rows(call, a);
}

// The call's new rows, if it has some.
kvt_status append_first(const CpuCall& call, const Attention& a) {
  const NewRows added{call.at<const uint8_t>(KVT_ATTEND_REF_K), call.at<const uint8_t>(KVT_ATTEND_REF_V),
                      call.at<const uint32_t>(KVT_ATTEND_REF_SLOTS)};
  if (!added.k && !added.v && !added.slots) return KVT_OK;
  if (!added.k || !added.v || !added.slots || (a.format != FORMAT_BF16 && a.format != FORMAT_F16))
    return fail(KVT_INVALID, "attend: new rows are k, v and slots together, for raw pages");
  return append_rows(call, "attend", added, call.at<uint8_t>(KVT_ATTEND_REF_POOL), call.bytes[KVT_ATTEND_REF_POOL],
                     {a.rows, 2 * a.dim, a.page_tokens, a.page_stride});
}

int tile_of(const Attention& a) {
  return reads_direct(a) && a.group <= kHeadsAtOnce ? kDirectTile : kDecodedTile;
}

kvt_status attend(const CpuCall& call) {
  Attention a{};
  const kvt_status read = read_arguments(call, a);
  if (read != KVT_OK) return read;
  const kvt_status appended = append_first(call, a);
  if (appended != KVT_OK) return appended;
  // Runs of one length, a few for each thread, so that rows of different lengths even out.
  int64_t all = 0;
  for (int64_t row = 0; row < a.rows; row++) all += a.tokens[row];
  const int64_t length = padded(std::max<int64_t>(kLeastRun, all / (kRunsAThread * call.threads.count()) + 1), kDecodedTile);
  a.tile = tile_of(a);
  std::unique_ptr<int64_t[]> first(new (std::nothrow) int64_t[a.rows + 1]);
  if (first == nullptr)
    return fail(KVT_OUT_OF_HOST_MEMORY, "attend: no memory for %lld rows", static_cast<long long>(a.rows));
  first[0] = 0;
  for (int64_t row = 0; row < a.rows; row++)
    first[row + 1] = first[row] + std::max<int64_t>(1, (a.tokens[row] + length - 1) / length);
  const int64_t runs = first[a.rows];
  // Runs of each row that are not done yet.
  std::unique_ptr<std::atomic<int64_t>[]> left(new (std::nothrow) std::atomic<int64_t>[a.rows]);
  if (left == nullptr)
    return fail(KVT_OUT_OF_HOST_MEMORY, "attend: no memory for %lld rows", static_cast<long long>(a.rows));
  for (int64_t row = 0; row < a.rows; row++) left[row].store(first[row + 1] - first[row], std::memory_order_relaxed);
  static thread_local Kept kept;
  float* memory = kept.of(runs * sums_of(a));
  if (memory == nullptr)
    return fail(KVT_OUT_OF_HOST_MEMORY, "attend: no memory for %lld parts", static_cast<long long>(runs));
  std::atomic<bool> starved = false;
  std::atomic<int64_t> outside = -1;
  a.outside = &outside;
  const auto run_at = [&](int64_t i) {
    if (i >= runs) return Run{};
    const int64_t row = std::upper_bound(first.get(), first.get() + a.rows, i) - first.get() - 1;
    const int64_t start = (i - first[row]) * length;
    const int64_t end = std::min<int64_t>(a.tokens[row], start + length);
    const int64_t tiles = std::max<int64_t>(1, (end - start + a.tile - 1) / a.tile);
    return Run{row, start, end, (end - start + tiles - 1) / tiles};
  };
  // Threads take runs one by one, each one ahead of the one that it is at.
  std::atomic<int64_t> taken = 0;
  call.threads.run(std::min<int64_t>(runs, call.threads.count()), [&](int64_t, int64_t) {
    const Scratch scratch(a);
    if (scratch.q == nullptr) {
      starved = true;
      return;
    }
    TilePair tiles;
    int64_t i = taken++;
    Run run = run_at(i);
    if (run.from < run.to && !locate(a, run.row, run.from, run.end_at(run.from), tiles.now())) return;
    coming(a, tiles.now(), 0).fetch_all();
    while (i < runs) {
      const int64_t next = taken++;
      const Run after = run_at(next);
      attend_run(a, run, after, scratch, tiles);
      // Here and not by all threads once all runs are done: its sums are in this core's cache, and nobody waits.
      const int64_t parts = first[run.row + 1] - first[run.row];
      if (parts == 1) {
        write_row(a, run.row, scratch.sums);
      } else {
        std::copy_n(scratch.sums.o, sums_of(a), sums_at(a, memory, i).o);
        if (--left[run.row] == 0) finish_row(a, memory, run.row, first[run.row], parts);
      }
      // A run without tokens asks for nothing.
      const bool begins = run.from >= run.to && after.from < after.to;
      if (begins && !locate(a, after.row, after.from, after.end_at(after.from), tiles.now())) return;
      run = after;
      i = next;
    }
  });
  if (starved) return fail(KVT_OUT_OF_HOST_MEMORY, "attend: no memory for a thread's tile");
  if (outside >= 0)
    return fail(KVT_INVALID, "attend: entry %lld is page %u, past the pool", static_cast<long long>(outside),
                a.table[outside]);
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_ATTEND, attend);

}  // namespace
