// Stand-in for declared work (calls/work.ts) on the processor: reads, writes, and multiply-adds in registers; products of
// the matrix units are multiply-adds like the others here.
#include <algorithm>
#include <atomic>

#include "kernel.h"

namespace {

using namespace kvt;

constexpr int64_t kVectorWords = 4;
constexpr uint32_t kFactor = 2654435761u;

// Words of whole 16-byte vectors.
int64_t words_in(int64_t bytes) { return bytes / 16 * kVectorWords; }

uint32_t sum_words(const uint32_t* words, int64_t capacity, int64_t from, int64_t to) {
  uint32_t sum = 0;
  for (int64_t at = from; at < to;) {
    const int64_t place = at % capacity;
    const int64_t run = capacity - place < to - at ? capacity - place : to - at;
    for (int64_t i = 0; i < run; i++) sum += words[place + i];
    at += run;
  }
  return sum;
}

void write_words(uint32_t* words, int64_t capacity, int64_t from, int64_t to) {
  for (int64_t at = from; at < to;) {
    const int64_t place = at % capacity;
    const int64_t run = capacity - place < to - at ? capacity - place : to - at;
    for (int64_t i = 0; i < run; i++) words[place + i] = static_cast<uint32_t>(at + i) * kFactor;
    at += run;
  }
}

// The result is positive whatever the number of steps; the compiler does not know.
float multiply_add(int64_t flops) {
  constexpr int kSums = 64;  // four registers of 16, or eight of 8: enough in flight to fill two units
  float sums[kSums];
  for (int i = 0; i < kSums; i++) sums[i] = static_cast<float>(i);
  for (int64_t step = flops / (2 * kSums); step > 0; step--)
    for (int i = 0; i < kSums; i++) sums[i] = sums[i] * 0.999f + 0.5f;
  float all = 0;
  for (const float sum : sums) all += sum;
  return all;
}

// One a thread where there is little to do, several where there is more, so that none waits long for the slowest.
int64_t pieces_of(int64_t bytes, int64_t flops, int64_t threads) {
  constexpr int64_t kBytes = 64 << 10, kFlops = 1 << 20, kAThread = 8;
  return std::clamp(std::max(bytes / kBytes, flops / kFlops), threads, kAThread * threads);
}

kvt_status work(const CpuCall& call) {
  const int64_t read = words_in(call.integer(KVT_WORK_INT_READ_BYTES));
  const int64_t write = words_in(call.integer(KVT_WORK_INT_WRITE_BYTES));
  const int64_t flops = call.integer(KVT_WORK_INT_FLOPS) + call.integer(KVT_WORK_INT_MATRIX_FLOPS);
  const int64_t launches = call.integer(KVT_WORK_INT_LAUNCHES);
  if (read < 0 || write < 0 || flops < 0 || launches < 1)
    return fail(KVT_INVALID, "work: expected launches 1 or more, bytes and flops 0 or more");
  const uint32_t* source = call.at<const uint32_t>(KVT_WORK_REF_READ);
  uint32_t* target = call.at<uint32_t>(KVT_WORK_REF_WRITE);
  const int64_t source_words = words_in(static_cast<int64_t>(call.bytes[KVT_WORK_REF_READ]));
  const int64_t target_words = words_in(static_cast<int64_t>(call.bytes[KVT_WORK_REF_WRITE]));
  if ((read > 0 && source_words == 0) || (write > 0 && target_words == 0))
    return fail(KVT_INVALID, "work: bytes to read or write; expected a buffer of 16 bytes or more");
  std::atomic<uint32_t> sum{0};
  for (int64_t at = 0; at < launches; at++) {
    const auto part = [=](int64_t words, int64_t launch) { return words / kVectorWords * launch / launches * kVectorWords; };
    const int64_t pieces = pieces_of(4 * (read + write) / launches, flops / launches, call.threads.count());
    call.threads.run(pieces, [&](int64_t from, int64_t to) {
      const auto within = [=](int64_t first, int64_t last, int64_t piece) {
        return first + (last - first) * piece / pieces;
      };
      const int64_t read_from = part(read, at), read_to = part(read, at + 1);
      const int64_t write_from = part(write, at), write_to = part(write, at + 1);
      sum += sum_words(source, source_words, within(read_from, read_to, from), within(read_from, read_to, to));
      write_words(target, target_words, within(write_from, write_to, from), within(write_from, write_to, to));
      if (multiply_add(flops / launches * (to - from) / pieces) < 0) sum += 1;
    });
  }
  if (uint32_t* out = call.at<uint32_t>(KVT_WORK_REF_SUM)) *out += sum;
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_WORK, work);

}  // namespace
