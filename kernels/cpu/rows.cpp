// Moving rows: small ones through registers with the next rows prefetched, large ones into memory past the cache
// (stream-copy.h).
#include "rows.h"

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstring>

#include "stream-copy.h"

namespace kvt {
namespace {

// Copies of at least this much go past the cache: they are larger than what a core's own cache keeps.
constexpr int64_t kStreamBytes = 4 << 20;
// Rows are fetched ahead of their use: about as many bytes as a core has in flight, of each row its beginning (what
// follows is sequential, so the processor does it).
constexpr int64_t kAheadBytes = 4096;
constexpr int64_t kMostRowsAhead = 32;
constexpr int64_t kPrefetchBytes = 512;
constexpr int64_t kFilePiece = 1 << 20;

int64_t place(const Rows& side, int64_t row) { return (side.index == nullptr ? row : side.index[row]) * side.stride; }

void prefetch(const char* at, int64_t bytes) {
  for (int64_t line = 0; line < std::min(bytes, kPrefetchBytes); line += 64) __builtin_prefetch(at + line);
}

void move_in_memory(const Rows& from, const Rows& to, int64_t begin, int64_t end, int64_t rows, int64_t bytes,
                    bool stream) {
  const int64_t distance = std::clamp<int64_t>(kAheadBytes / bytes, 2, kMostRowsAhead);
  const StreamCopy past_caches = stream_copy();
  for (int64_t row = begin; row < end; row++) {
    const int64_t ahead = row + distance;
    if (from.index != nullptr && ahead < rows) prefetch(from.memory + place(from, ahead), bytes);
    char* target = to.memory + place(to, row);
    const char* source = from.memory + place(from, row);
    if (stream)
      past_caches(target, source, bytes);
    else
      std::memcpy(target, source, static_cast<size_t>(bytes));
  }
  if (stream) stream_fence();
}

kvt_status move_piece(const Rows& from, const Rows& to, int64_t source, int64_t target, int64_t bytes) {
  const uint64_t count = static_cast<uint64_t>(bytes);
  const uint64_t from_at = from.offset + static_cast<uint64_t>(source);
  const uint64_t to_at = to.offset + static_cast<uint64_t>(target);
  if (to.file == nullptr) return from.file->read(from_at, count, to.memory + target);
  if (from.file == nullptr) return to.file->write(to_at, count, from.memory + source);
  std::vector<char> between(count);
  if (const kvt_status status = from.file->read(from_at, count, between.data())) return status;
  return to.file->write(to_at, count, between.data());
}

// Requests are rows, or pieces of long rows; as many are in flight as `io` has threads.
kvt_status move_through_files(const Rows& from, const Rows& to, int64_t rows, int64_t bytes, Threads& io) {
  const int64_t pieces = (bytes + kFilePiece - 1) / kFilePiece;
  std::atomic<int> failed{KVT_OK};
  std::mutex lock;
  std::string message;
  io.run(rows * pieces, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end && failed == KVT_OK; at++) {
      const int64_t row = at / pieces, first = at % pieces * kFilePiece;
      const kvt_status status = move_piece(from, to, place(from, row) + first, place(to, row) + first,
                                           std::min(kFilePiece, bytes - first));
      if (status == KVT_OK) continue;
      const std::lock_guard<std::mutex> one(lock);
      failed = status;
      message = kvt_message();
    }
  });
  if (failed == KVT_OK) return KVT_OK;
  return fail(static_cast<kvt_status>(failed.load()), "%s", message.c_str());
}

bool dense(const Rows& side, int64_t bytes) { return side.index == nullptr && side.stride == bytes; }

}  // namespace

Rows rows_of(const CpuCall& call, int ref, int64_t stride) {
  return {call.at<char>(ref), call.files[ref], call.call.offset[ref], call.bytes[ref], stride, nullptr};
}

kvt_status check_rows(const char* kernel, const char* side, const Rows& place, int64_t rows, int64_t bytes) {
  if (place.stride < 0) return fail(KVT_INVALID, "%s: %s stride %" PRId64 " is negative", kernel, side, place.stride);
  uint64_t highest = static_cast<uint64_t>(rows - 1);
  if (place.index != nullptr) highest = *std::max_element(place.index, place.index + rows);
  const unsigned __int128 end =
      static_cast<unsigned __int128>(highest) * static_cast<uint64_t>(place.stride) + static_cast<uint64_t>(bytes);
  if (end > place.bytes)
    return fail(KVT_INVALID, "%s: row %" PRIu64 " of the %s ends past its buffer", kernel, highest, side);
  return KVT_OK;
}

kvt_status move_rows(const char* kernel, const Rows& from, const Rows& to, int64_t rows, int64_t bytes,
                     Threads& threads, Threads& io) {
  if (rows < 0 || bytes < 0) return fail(KVT_INVALID, "%s: rows and bytes must be 0 or more", kernel);
  if (rows == 0 || bytes == 0) return KVT_OK;
  if (const kvt_status status = check_rows(kernel, "source", from, rows, bytes)) return status;
  if (const kvt_status status = check_rows(kernel, "target", to, rows, bytes)) return status;
  if (from.file != nullptr || to.file != nullptr) return move_through_files(from, to, rows, bytes, io);
  const bool stream = rows * bytes >= kStreamBytes && bytes >= 64;
  if (dense(from, bytes) && dense(to, bytes)) {
    threads.run(rows * bytes, [&](int64_t begin, int64_t end) {
      if (stream) {
        stream_copy()(to.memory + begin, from.memory + begin, end - begin);
        stream_fence();
      } else {
        std::memcpy(to.memory + begin, from.memory + begin, static_cast<size_t>(end - begin));
      }
    });
  } else {
    threads.run(rows, [&](int64_t begin, int64_t end) { move_in_memory(from, to, begin, end, rows, bytes, stream); });
  }
  return KVT_OK;
}

int Limited::count() const {
  return units_ > 0 ? static_cast<int>(std::min<int64_t>(units_, threads_.count())) : threads_.count();
}

// `count()` ranges, so that no more threads than that have something to do.
void Limited::run(int64_t count, const std::function<void(int64_t, int64_t)>& body) {
  const int64_t parts = this->count();
  if (parts == threads_.count()) return threads_.run(count, body);
  threads_.run(parts, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; part++) body(count * part / parts, count * (part + 1) / parts);
  });
}

}  // namespace kvt
