// Packing by threads (packing.h). What a thread packs next it asks for while it packs what it has: rows that lie anywhere
// come at the memory's rate only where many of them are on their way. What is packed goes past the caches, into which it
// would have to be read first.
#include "packing.h"

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <memory>

#include "stream-copy.h"

namespace kvt {
namespace {

// The first and the last piece have at least as many bytes; those between grow to so many, which takes the engine about
// twenty times as long as it takes to begin with the next one.
constexpr int64_t kLeastPiece = 256 << 10, kPiece = 4 << 20;
// The longest piece is so many times the shortest at most, which takes so many pieces to grow and to shrink.
constexpr int64_t kMostGrowth = 16;
constexpr int kGrowing = 12;
// Packed bytes that a thread takes at a time, and asks for ahead. On 15 threads of an H100's host 206 MB in rows of 256
// bytes take 4.4 ms with 16 KiB, 3.7 with 32, 3.9 with 64.
constexpr int64_t kRun = 32 << 10;
// Into the core's second cache, which waits for more lines than the first.
constexpr int kNearCache = 2;
// More rows than an index can name.
constexpr uint64_t kAnyRow = uint64_t{1} << 32;

// What one thread packs at a time: packed bytes, from byte `at` of a row.
struct Stretch {
  int64_t row = 0, at = 0, bytes = 0;
  char* to = nullptr;
};

// Where rows are packed from. Each thread has one of its own: it looks at it for every row, and what threads write lies
// beside what they share.
struct Source {
  const char* memory;
  const uint32_t* index;
  int64_t stride, row_bytes;
  // Rows that lie in the memory.
  uint64_t rows_held = 0;
  StreamCopy copy = stream_copy();

  Source(const Rows& from, int64_t bytes)
      : memory(from.memory), index(from.index), stride(from.stride), row_bytes(bytes) {
    if (static_cast<uint64_t>(bytes) <= from.bytes)
      rows_held = stride > 0 ? (from.bytes - bytes) / stride + 1 : kAnyRow;
  }

  const char* row_at(uint32_t row) const { return memory + int64_t{row} * stride; }
};

class Packing {
 public:
  Packing(const PackingPlan& plan, const Rows& from, char* to)
      : plan_(plan), from_(from), to_(to), left_(std::make_unique<std::atomic<int64_t>[]>(plan.pieces())) {
    // Whole rows, or equal parts of a long one.
    run_ = plan.row_bytes > kRun ? kRun : kRun / plan.row_bytes * plan.row_bytes;
    for (int piece = 0; piece < plan.pieces(); piece++) {
      left_[piece] = (plan.bytes_of(piece) + run_ - 1) / run_;
      first_run_.push_back(first_run_.back() + left_[piece]);
    }
  }

  // Takes runs until there are none.
  void work(const std::function<void(int)>& packed) {
    const Source source(from_, plan_.row_bytes);
    int piece = 0;
    Stretch now = take(piece), first = now;
    ask(source, first, first.bytes);
    while (now.bytes > 0) {
      int coming_piece = piece;
      const Stretch coming = take(coming_piece);
      pack(source, now, coming);
      stream_fence();
      if (--left_[piece] == 0) packed(piece);
      now = coming;
      piece = coming_piece;
    }
  }

  // A row that was chosen outside the buffer; below 0: none.
  int64_t outside() const { return outside_; }

 private:
  // The next run of all, and its piece, which is not before `piece`; nothing where all are taken.
  Stretch take(int& piece) {
    const int64_t run = next_++;
    if (run >= first_run_.back()) return {};
    while (run >= first_run_[piece + 1]) piece++;
    const int64_t begin = (run - first_run_[piece]) * run_;
    return {plan_.first_row[piece] + begin / plan_.row_bytes, begin % plan_.row_bytes,
            std::min(run_, plan_.bytes_of(piece) - begin), to_ + plan_.place_of(piece) + begin};
  }

  // Asks for the coming `bytes` of a stretch, and goes on by as many.
  static void ask(const Source& source, Stretch& stretch, int64_t bytes) {
    while (bytes > 0 && stretch.bytes > 0) {
      const int64_t count = std::min({source.row_bytes - stretch.at, stretch.bytes, bytes});
      const char* from = source.row_at(source.index[stretch.row]) + stretch.at;
      for (int64_t line = 0; line < count; line += kCacheLine) __builtin_prefetch(from + line, 0, kNearCache);
      bytes -= count;
      stretch.bytes -= count;
      stretch.at += count;
      if (stretch.at < source.row_bytes) return;
      stretch.at = 0;
      stretch.row++;
    }
  }

  // Packs a stretch, and asks for as much of the coming one.
  void pack(const Source& source, Stretch now, Stretch coming) {
    while (now.bytes > 0) {
      const int64_t count = std::min(source.row_bytes - now.at, now.bytes);
      ask(source, coming, count);
      const uint32_t row = source.index[now.row];
      if (row < source.rows_held) source.copy(now.to, source.row_at(row) + now.at, count);
      else outside_ = row;
      now.to += count;
      now.bytes -= count;
      now.at = 0;
      now.row++;
    }
  }

  const PackingPlan& plan_;
  const Rows& from_;
  char* const to_;
  int64_t run_;
  // Runs before each piece; of each, those that are not packed yet.
  std::vector<int64_t> first_run_{0};
  std::unique_ptr<std::atomic<int64_t>[]> left_;
  // All threads write it.
  alignas(kCacheLine) std::atomic<int64_t> next_{0};
  std::atomic<int64_t> outside_{-1};
};

}  // namespace

PackingPlan PackingPlan::of(int64_t rows, int64_t row_bytes, int most_pieces) {
  PackingPlan plan{row_bytes, {0}};
  const int64_t all = rows * row_bytes;
  const int64_t most = most_pieces > 1 ? std::max(kPiece, all / (most_pieces - kGrowing)) : all;
  const int64_t least = most_pieces > 1 ? std::max(kLeastPiece, most / kMostGrowth) : all;
  for (int64_t done = 0; done < rows;) {
    const int64_t before = done * row_bytes, after = all - before;
    const int64_t bytes = std::min({most, std::max(least, before), std::max(least, after / 2)});
    int64_t count = std::min((bytes + row_bytes - 1) / row_bytes, rows - done);
    if (after - count * row_bytes < least) count = rows - done;
    plan.first_row.push_back(done += count);
  }
  return plan;
}

kvt_status pack_rows(const char* kernel, const PackingPlan& plan, const Rows& from, char* to, Threads& threads,
                     const std::function<void(int piece)>& packed) {
  if (from.stride < 0) return fail(KVT_INVALID, "%s: source stride %" PRId64 " is negative", kernel, from.stride);
  Packing packing(plan, from, to);
  threads.run(threads.count(), [&](int64_t, int64_t) { packing.work(packed); });
  if (packing.outside() < 0) return KVT_OK;
  return fail(KVT_INVALID, "%s: row %" PRId64 " of the source ends past its buffer", kernel, packing.outside());
}

}  // namespace kvt
