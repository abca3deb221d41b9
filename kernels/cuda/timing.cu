// Times lists of calls by CUDA events: the whole list, as a graph where that is asked for and possible, and each call
// apart in separate runs. kvt_run of abi.h.
#include <new>

#include "clock.h"
#include "run.h"

namespace kvt {

namespace {

constexpr int64_t kGateNs = 5'000'000;

// Holds a stream until the host has enqueued what follows, or for a while: a full queue would hold the host as well.
__global__ void hold(const volatile uint32_t* word, uint32_t value, int64_t most_ns) {
  const int64_t start = gpu_now_ns();
  while (static_cast<int32_t>(*word - value) < 0 && gpu_now_ns() - start < most_ns) __nanosleep(200);
}

// Reads, so that the cache is left with clean lines whose eviction costs the timed region nothing.
__global__ void sweep(const uint4* from, uint64_t vectors, uint32_t* out) {
  uint32_t sum = 0;
  for (uint64_t i = blockIdx.x * static_cast<uint64_t>(blockDim.x) + threadIdx.x; i < vectors;
       i += static_cast<uint64_t>(gridDim.x) * blockDim.x)
    sum ^= from[i].x;
  if (sum == 0x9e3779b9u) *out = sum;
}

}  // namespace

kvt_status Run::record_graph() {
  kvt_status status = finish(enqueue(Kind::plain));  // loads modules, and says first what can't run at all
  if (status != KVT_OK) return status;
  status = checked(cudaStreamBeginCapture(origin(), cudaStreamCaptureModeThreadLocal), "run: graph");
  if (status != KVT_OK) return status;
  status = enqueue(Kind::recording);
  const std::string line = kvt_message();
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(origin(), &graph);
  if (status != KVT_OK) {
    cudaGetLastError();
    if (graph != nullptr) cudaGraphDestroy(graph);
    return status == KVT_UNSUPPORTED ? KVT_OK : fail(status, "%s", line.c_str());
  }
  status = checked(ended, "run: graph");
  if (status == KVT_OK) status = checked(cudaGraphInstantiate(&graph_, graph, 0), "run: graph");
  if (graph != nullptr) cudaGraphDestroy(graph);
  return status == KVT_OK ? checked(cudaGraphUpload(graph_, origin()), "run: graph") : status;
}

// The recorded nodes wait for the epoch of the recording: between replays, which are over when this is called, the
// words step back behind it.
kvt_status Run::replay_graph() {
  if (uses_host_ || stages_) {
    for (int32_t w = 0; w < words_; w++) *static_cast<volatile uint32_t*>(word(w)) = epoch_ - 1;
    start_host();
    for (int32_t i = 0; i < count_; i++)
      if (steps_[i].staged) start_staged(i);
  }
  return checked(cudaGraphLaunch(graph_, origin()), "run: graph");
}

// Threads of the host (the driver's too, where memory is pageable) find as little in their caches as kernels do in the
// GPU's. A little more than these hold: what is read takes the place of what was read longest ago.
kvt_status Run::flush_host() {
  if (!uses_host_ && !uses_pageable_ && !stages_) return KVT_OK;
  static const uint64_t bytes = last_level_bytes() / 4 * 5;
  try {
    context_->others.pass(bytes, stages_ ? *context_->staging_pool : *context_->pool);
  } catch (const std::bad_alloc&) {
    return fail(KVT_OUT_OF_HOST_MEMORY, "run: no %llu bytes to pass through the host's caches",
                static_cast<unsigned long long>(bytes));
  }
  return KVT_OK;
}

kvt_status Run::flush(uint64_t bytes) {
  if (bytes == 0) return KVT_OK;
  if (const kvt_status host = flush_host()) return host;
  if (context_->flush_bytes < bytes) {
    if (context_->flush != nullptr) cudaFree(context_->flush);
    context_->flush = nullptr;
    context_->flush_bytes = 0;
    void* made = nullptr;
    kvt_status status = checked(cudaMalloc(&made, bytes), "run: flush");
    if (status == KVT_OK) status = checked(cudaMemsetAsync(made, 1, bytes, origin()), "run: flush");
    if (status != KVT_OK) return status;
    context_->flush = static_cast<uint8_t*>(made);
    context_->flush_bytes = bytes;
  }
  void* memory = context_->flush;
  sweep<<<context_->multiprocessors * 8, 256, 0, origin()>>>(static_cast<const uint4*>(memory), bytes / 16,
                                                            static_cast<uint32_t*>(memory));
  const kvt_status status = after_launch("run: flush");
  return status == KVT_OK ? wait_for(context_, origin_) : status;
}

kvt_status Run::time_total(const kvt_run_options& options, kvt_run_times* times) {
  times->used_graph = 0;
  kvt_status status = KVT_OK;
  const int inner = options.inner < 1 ? 1 : options.inner;
  if (options.graph != 0) {
    status = record_graph();
    if (status != KVT_OK) return status;
    times->used_graph = graph_ != nullptr ? 1 : 0;
  }
  // Replays that share words with host threads can't follow each other without a pause: each is timed by itself.
  const bool apart = graph_ != nullptr && (uses_host_ || stages_);
  for (int r = -options.warmups; r < options.repeats; r++) {
    status = flush(options.flush_bytes);
    double ms = 0;
    for (int i = 0; i < (apart ? inner : 1) && status == KVT_OK; i++) status = time_region(apart ? 1 : inner, ms);
    if (status != KVT_OK) return status;
    if (r >= 0) times->total_ns[r] = ms * 1e6 / inner;
  }
  return KVT_OK;
}

// Adds the time of the list, `inner` times back to back.
kvt_status Run::time_region(int inner, double& ms) {
  kvt_status status = checked(cudaEventRecord(start_, origin()), "run");
  for (int i = 0; i < inner && status == KVT_OK; i++)
    status = graph_ != nullptr ? replay_graph() : enqueue(Kind::plain);
  if (status == KVT_OK) status = checked(cudaEventRecord(end_, origin()), "run");
  status = finish(status);
  float took = 0;
  if (status == KVT_OK) status = checked(cudaEventElapsedTime(&took, start_, end_), "run");
  ms += took;
  return status;
}

kvt_status Run::time_calls(const kvt_run_options& options, kvt_run_times* times) {
  kvt_status status = KVT_OK;
  for (int32_t i = 0; i < count_ && status == KVT_OK; i++) {
    if (!on_gpu(calls_[i].stream)) continue;
    status = make_event(steps_[i].start, true);
    if (status == KVT_OK) status = make_event(steps_[i].end, true);
  }
  for (int r = -1; r < options.repeats && status == KVT_OK; r++) {
    status = flush(options.flush_bytes);
    if (status != KVT_OK) return status;
    // The list waits until it has been enqueued, so that launches by the host do not show as time of calls.
    const uint32_t gate = context_->epoch + 1;
    hold<<<1, 1, 0, origin()>>>(word(gate_word()), gate, kGateNs);
    status = after_launch("run: gate");
    if (status == KVT_OK) status = checked(cudaEventRecord(start_, origin()), "run");
    if (status == KVT_OK) status = enqueue(Kind::timed);
    *static_cast<volatile uint32_t*>(word(gate_word())) = gate;
    status = finish(status);
    for (int32_t i = 0; i < count_ && status == KVT_OK && r >= 0; i++) {
      const Step& step = steps_[i];
      double start = step.host_start_ns, end = step.host_end_ns;
      if (on_gpu(calls_[i].stream)) {
        float start_ms = 0, end_ms = 0;
        status = checked(cudaEventElapsedTime(&start_ms, start_, step.start), "run");
        if (status == KVT_OK) status = checked(cudaEventElapsedTime(&end_ms, start_, step.end), "run");
        start = static_cast<double>(start_ms) * 1e6;
        end = static_cast<double>(end_ms) * 1e6;
      }
      times->start_ns[static_cast<int64_t>(r) * count_ + i] = start;
      times->end_ns[static_cast<int64_t>(r) * count_ + i] = end;
    }
  }
  return status;
}

}  // namespace kvt

extern "C" kvt_status kvt_run(kvt_context* context, const kvt_call* calls, int32_t count,
                              const kvt_run_options* options, kvt_run_times* times) {
  using namespace kvt;
  std::lock_guard<std::mutex> lock(context->mutex);
  if (device_lost) return device_ready();
  if (count < 0 || options->repeats < 0 || options->warmups < 0)
    return fail(KVT_INVALID, "run: calls, repeats and warmups must be 0 or more");
  kvt_status status = checked(cudaSetDevice(context->device), "run");
  if (status != KVT_OK) return status;
  Run run(context, calls, count);
  status = run.plan();
  if (status == KVT_OK) status = run.time_total(*options, times);
  if (status == KVT_OK && options->per_call != 0 && times->start_ns != nullptr && times->end_ns != nullptr)
    status = run.time_calls(*options, times);
  return status;
}
