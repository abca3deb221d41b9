// The CPU backend's side of abi.h: contexts, buffers, and runs of lists of calls, timed by the steady clock.
#include "machine.h"

#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "cores.h"
#include "json.h"

namespace kvt {
namespace {

thread_local char message[512] = "";
CpuKernelEntry table[KVT_KERNELS];

}  // namespace

kvt_status fail(kvt_status status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  // The arguments may point into the message itself.
  char line[sizeof message];
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  std::memcpy(message, line, sizeof line);
  return status;
}

void register_cpu_kernel(int32_t kernel, CpuKernel function, int level, bool takes_files) {
  table[kernel].function[level] = function;
  table[kernel].takes_files = takes_files;
}

CpuKernelEntry& cpu_kernel_entry(int32_t kernel) { return table[kernel]; }

namespace {

CpuKernel function_at(int32_t kernel, int level) {
  for (int at = level; at >= 0; at--)
    if (table[kernel].function[at] != nullptr) return table[kernel].function[at];
  return nullptr;
}

Buffer* find(kvt_context* context, int32_t id) {
  const auto found = context->buffers.find(id);
  return found == context->buffers.end() ? nullptr : found->second.get();
}

// The buffer, if bytes [offset, offset + bytes) lie in it; null with a line set otherwise.
Buffer* range(kvt_context* context, int32_t id, uint64_t offset, uint64_t bytes, const char* what) {
  Buffer* buffer = find(context, id);
  if (buffer == nullptr) {
    fail(KVT_INVALID, "%s: no buffer %d", what, id);
  } else if (offset > buffer->bytes || bytes > buffer->bytes - offset) {
    fail(KVT_INVALID, "%s: bytes %" PRIu64 " to %" PRIu64 " of buffer %d, which has %" PRIu64, what, offset,
         offset + bytes, id, buffer->bytes);
    return nullptr;
  }
  return buffer;
}

kvt_status resolve(kvt_context* context, const kvt_call& call, int32_t at, Resolved* resolved) {
  if (call.kernel < 0 || call.kernel >= KVT_KERNELS) return fail(KVT_INVALID, "call %d: no kernel %d", at, call.kernel);
  const char* name = kernel_name(call.kernel);
  resolved->function = function_at(call.kernel, context->level);
  if (resolved->function == nullptr) return fail(KVT_UNSUPPORTED, "%s: the cpu backend does not have this kernel", name);
  if (call.stream < 0 || call.stream >= KVT_STREAMS) return fail(KVT_INVALID, "%s: no stream %d", name, call.stream);
  for (const int32_t earlier : call.after)
    if (earlier < -1 || earlier >= at)
      return fail(KVT_INVALID, "%s: call %d is after call %d, expected an earlier one", name, at, earlier);
  resolved->call = call;
  for (int ref = 0; ref < KVT_MAX_REFS; ref++) {
    resolved->pointers[ref] = nullptr;
    resolved->bytes[ref] = 0;
    resolved->files[ref] = nullptr;
    if (call.buffer[ref] == -1) continue;
    Buffer* buffer = range(context, call.buffer[ref], call.offset[ref], 0, name);
    if (buffer == nullptr) return KVT_INVALID;
    if (buffer->file != nullptr && !table[call.kernel].takes_files)
      return fail(KVT_INVALID, "%s: buffer %d is a file (nvme); copy, gather and scatter read files", name,
                  call.buffer[ref]);
    if (buffer->memory != nullptr) resolved->pointers[ref] = buffer->memory + call.offset[ref];
    resolved->bytes[ref] = buffer->bytes - call.offset[ref];
    resolved->files[ref] = buffer->file.get();
  }
  return KVT_OK;
}

kvt_status run_list(kvt_context* context, const std::vector<Resolved>& calls, const kvt_run_options& options,
                    kvt_run_times* times) {
  const auto flush = [&] {
    if (options.flush_bytes > 0) context->others.pass(options.flush_bytes, workers_of(*context->streams));
  };
  // A look at the clock takes a processor no longer than a look at a word: calls are timed in the runs that are timed whole.
  const size_t columns = options.per_call ? calls.size() : 0;
  for (int32_t repeat = -options.warmups; repeat < options.repeats; repeat++) {
    flush();
    const bool stamps = columns > 0 && repeat >= 0;
    const size_t row = static_cast<size_t>(std::max(0, repeat)) * columns;
    double* const starts = stamps ? times->start_ns + row : nullptr;
    double* const ends = stamps ? times->end_ns + row : nullptr;
    const int64_t start = now_ns();
    for (int32_t i = 0; i < options.inner; i++)
      if (const kvt_status status = run_once(*context->streams, calls, starts, ends)) return status;
    if (repeat >= 0) times->total_ns[repeat] = static_cast<double>(now_ns() - start) / options.inner;
  }
  return KVT_OK;
}

// No exception crosses the ABI.
template <typename Body>
kvt_status guarded(const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return fail(KVT_OUT_OF_HOST_MEMORY, "no memory");
  } catch (const std::exception& error) {
    return fail(KVT_FAULT, "%s", error.what());
  }
}

// Calls body(memory, bytes, at) on the pieces of a range of a buffer: whole where it is memory, through a piece of
// memory where it is a file, which is written back if `writes`.
template <typename Body>
kvt_status on_pieces(Buffer* buffer, uint64_t offset, uint64_t bytes, const Body& body) {
  if (buffer->file == nullptr) {
    body(buffer->memory + offset, bytes, uint64_t{0});
    return KVT_OK;
  }
  constexpr uint64_t kPiece = 8u << 20;
  std::vector<char> piece(std::min(bytes, kPiece));
  for (uint64_t at = 0; at < bytes; at += kPiece) {
    const uint64_t part = std::min(kPiece, bytes - at);
    body(piece.data(), part, at);
    if (const kvt_status status = buffer->file->write(offset + at, part, piece.data())) return status;
  }
  return KVT_OK;
}

}  // namespace
}  // namespace kvt

using namespace kvt;

extern "C" {

int32_t kvt_abi_version(void) { return KVT_ABI_VERSION; }
const char* kvt_calls_digest(void) { return KVT_CALLS_DIGEST; }
const char* kvt_message(void) { return message; }

kvt_status kvt_open(const char* options, kvt_context** context) {
  return guarded([&] {
    auto made = std::make_unique<kvt_context>();
    const int threads = static_cast<int>(json_number(options, "threads", 0));
    made->file = json_string(options, "file", "/tmp/kvtier-nvme");
    made->level = std::min(processor_level(), static_cast<int>(json_number(options, "level", kLevels - 1)));
    made->fences = json_number(options, "fences", 0) != 0;
    made->streams = make_streams(threads > 0 ? threads : cores(),
                                 std::max(1, static_cast<int>(json_number(options, "queueDepth", 16))));
    *context = made.release();
    return KVT_OK;
  });
}

void kvt_close(kvt_context* context) { delete context; }

kvt_status kvt_allocate(kvt_context* context, int32_t tier, uint64_t bytes, int32_t* id) {
  return guarded([&] {
    if (tier < KVT_HBM || tier > KVT_NVME_FILE) return fail(KVT_INVALID, "allocate: no tier %d", tier);
    if (bytes == 0) return fail(KVT_INVALID, "allocate: 0 bytes, expected 1 or more");
    auto buffer = std::make_unique<Buffer>();
    buffer->tier = tier;
    buffer->bytes = bytes;
    const std::string path = context->file + "-" + std::to_string(now_ns());
    const kvt_status status =
        tier == KVT_NVME_FILE ? File::create(path, (bytes + kPage - 1) / kPage * kPage, &buffer->file)
        : context->fences     ? allocate_fenced(bytes, buffer.get())
                              : allocate_memory(tier, bytes, buffer.get());
    if (status != KVT_OK) return status;
    *id = context->next++;
    context->buffers.emplace(*id, std::move(buffer));
    return KVT_OK;
  });
}

kvt_status kvt_free(kvt_context* context, int32_t buffer) {
  return context->buffers.erase(buffer) == 1 ? KVT_OK : fail(KVT_INVALID, "free: no buffer %d", buffer);
}

kvt_status kvt_write(kvt_context* context, int32_t id, uint64_t offset, const void* data, uint64_t bytes) {
  return guarded([&] {
    Buffer* buffer = range(context, id, offset, bytes, "write");
    if (buffer == nullptr) return KVT_INVALID;
    if (buffer->file != nullptr) return buffer->file->write(offset, bytes, data);
    std::memcpy(buffer->memory + offset, data, bytes);
    return KVT_OK;
  });
}

kvt_status kvt_read(kvt_context* context, int32_t id, uint64_t offset, void* data, uint64_t bytes) {
  return guarded([&] {
    Buffer* buffer = range(context, id, offset, bytes, "read");
    if (buffer == nullptr) return KVT_INVALID;
    if (buffer->file != nullptr) return buffer->file->read(offset, bytes, data);
    std::memcpy(data, buffer->memory + offset, bytes);
    return KVT_OK;
  });
}

kvt_status kvt_fill(kvt_context* context, int32_t id, uint64_t offset, uint64_t bytes, int32_t kind, uint64_t seed) {
  return guarded([&] {
    Buffer* buffer = range(context, id, offset, bytes, "fill");
    if (buffer == nullptr) return KVT_INVALID;
    if (kind < KVT_NORMAL_F32 || kind > KVT_ZERO) return fail(KVT_INVALID, "fill: no kind %d", kind);
    if (offset % 4 != 0) return fail(KVT_INVALID, "fill: offset %" PRIu64 ", expected a multiple of 4", offset);
    return on_pieces(buffer, offset, bytes, [&](void* memory, uint64_t part, uint64_t at) {
      fill_memory(memory, part, kind, seed, at, workers_of(*context->streams));
    });
  });
}

kvt_status kvt_run(kvt_context* context, const kvt_call* calls, int32_t count, const kvt_run_options* options,
                   kvt_run_times* times) {
  return guarded([&] {
    if (options->warmups < 0 || options->repeats < 0 || options->inner < 1)
      return fail(KVT_INVALID, "run: expected warmups and repeats of 0 or more and inner of 1 or more");
    std::vector<Resolved> resolved(static_cast<size_t>(std::max(0, count)));
    for (int32_t at = 0; at < count; at++)
      if (const kvt_status status = resolve(context, calls[at], at, &resolved[static_cast<size_t>(at)])) return status;
    // A processor replays nothing: a list is what it is, graph or not.
    times->used_graph = 0;
    return run_list(context, resolved, *options, times);
  });
}

}  // extern "C"
