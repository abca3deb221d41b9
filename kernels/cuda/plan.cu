// Plans a run: checks every call and finds its buffers, keeps the waits that are needed, and has ready what streams, words
// and host threads take. Nothing has run when this fails.
#include "run.h"

namespace kvt {

kvt_status Run::make_event(cudaEvent_t& event, bool timing) {
  return checked(cudaEventCreateWithFlags(&event, timing ? cudaEventDefault : cudaEventDisableTiming), "run: event");
}

kvt_status Run::resolve(int32_t at) {
  const kvt_call& call = calls_[at];
  Step& step = steps_[at];
  if (call.kernel < 0 || call.kernel >= KVT_KERNELS) return fail(KVT_INVALID, "call %d: no kernel %d", at, call.kernel);
  if (call.stream < 0 || call.stream >= KVT_STREAMS) return fail(KVT_INVALID, "call %d: no stream %d", at, call.stream);
  const bool gpu = on_gpu(call.stream);
  const CudaEntry& entry = cuda_kernel(call.kernel);
  if (gpu ? entry.function == nullptr : cpu_kernel(call.kernel).function == nullptr)
    return fail(KVT_UNSUPPORTED, "call %d: kernel %d has no %s version in this library", at, call.kernel,
                gpu ? "CUDA" : "CPU");
  for (const int32_t before : call.after) {
    if (before < 0) continue;
    if (before >= at) return fail(KVT_INVALID, "call %d: waits for call %d, expected an earlier one", at, before);
    if (calls_[before].stream != call.stream) step.waits.push_back(before);
  }
  for (int r = 0; r < KVT_MAX_REFS; r++) {
    step.pointers[r] = nullptr;
    step.bytes[r] = 0;
    step.tiers[r] = -1;
    step.files[r] = nullptr;
    if (call.buffer[r] < 0) continue;
    const CudaBuffer* buffer = buffer_at(context_, call.buffer[r], call.offset[r], 0, "run");
    if (buffer == nullptr) return KVT_INVALID;
    step.bytes[r] = buffer->bytes - call.offset[r];
    step.tiers[r] = buffer->tier;
    if (buffer->tier == KVT_PAGEABLE) uses_pageable_ = true;
    if (buffer->file) {
      if (gpu || !cpu_kernel(call.kernel).takes_files)
        return fail(KVT_UNSUPPORTED, "call %d: only copy, gather and scatter on a host stream reach the nvme tier", at);
      step.files[r] = buffer->file.get();
      continue;
    }
    if (gpu && buffer->tier == KVT_PAGEABLE && !entry.traits.pageable)
      return fail(KVT_INVALID, "call %d: a GPU kernel wants hbm or dram, buffer %d is pageable", at, call.buffer[r]);
    if (!gpu && buffer->host == nullptr)
      return fail(KVT_INVALID, "call %d: a host kernel wants host memory, buffer %d is in hbm", at, call.buffer[r]);
    step.pointers[r] = (gpu ? buffer->device : buffer->host) + call.offset[r];
  }
  return KVT_OK;
}

// Drops waits that an earlier call of the same stream has already done: calls of a stream end in order.
void Run::prune_waits(int32_t at, std::vector<std::vector<int32_t>>& reached) {
  Step& step = steps_[at];
  const int32_t stream = calls_[at].stream;
  std::vector<int32_t> kept;
  for (const int32_t before : step.waits) {
    int32_t& latest = reached[stream][calls_[before].stream];
    bool last_of_stream = before > latest;
    for (const int32_t other : step.waits)
      if (calls_[other].stream == calls_[before].stream && other > before) last_of_stream = false;
    if (last_of_stream) kept.push_back(before);
  }
  for (const int32_t before : kept) {
    reached[stream][calls_[before].stream] = before;
    (on_gpu(stream) ? steps_[before].gpu_waits : steps_[before].host_waits) = true;
  }
  step.waits = kept;
}

kvt_status Run::reserve() {
  for (int s = 0; s < kGpuStreams; s++) {
    if (!uses_[s] || context_->scratch[s] != nullptr) continue;
    const kvt_status status = checked(cudaMalloc(&context_->scratch[s], kScratchBytes), "run: scratch");
    if (status != KVT_OK) return status;
  }
  if (context_->word_count < most_words()) {
    if (context_->words != nullptr) cudaFreeHost(context_->words);
    context_->words = nullptr;
    context_->word_count = 0;
    const int32_t room = most_words() < 16384 ? 16384 : 2 * most_words();
    void* made = nullptr;
    const uint64_t bytes = room * sizeof(uint32_t);
    const kvt_status status =
        checked(cudaHostAlloc(&made, bytes, cudaHostAllocMapped | cudaHostAllocPortable), "run: words");
    if (status != KVT_OK) return status;
    context_->words = static_cast<uint32_t*>(made);
    context_->word_count = room;
    for (int32_t w = 0; w < room; w++) context_->words[w] = context_->epoch;
  }
  for (int s = KVT_CPU; s < KVT_STREAMS; s++)
    if (uses_[s] && !context_->host[s]) context_->host[s] = std::make_unique<HostStream>();
  if ((uses_host_ || uses_pageable_) && !context_->pool) context_->pool = make_threads(context_->threads);
  if (uses_host_) context_->pool->stay_awake(true);
  holds_pool_ = uses_host_;
  if (uses_host_ && !context_->io) context_->io = make_threads(context_->queue_depth);
  return KVT_OK;
}

kvt_status Run::plan() {
  steps_.resize(count_);
  words_ = 2 * count_ + 2;
  std::vector<std::vector<int32_t>> reached(KVT_STREAMS, std::vector<int32_t>(KVT_STREAMS, -1));
  for (int32_t i = 0; i < count_; i++) {
    const kvt_status status = resolve(i);
    if (status != KVT_OK) return status;
    prune_waits(i, reached);
    const int32_t stream = calls_[i].stream;
    if (uses_[stream] && steps_[i].waits.empty())
      steps_[last_[stream]].next_ahead = cuda_kernel(calls_[i].kernel).traits.ahead;
    uses_[stream] = true;
    last_[stream] = i;
  }
  int gpu_streams = 0;
  for (int s = kGpuStreams - 1; s >= 0; s--)
    if (uses_[s]) {
      gpu_streams++;
      origin_ = s;
    }
  uses_host_ = uses_[KVT_CPU] || uses_[KVT_NVME];
  one_stream_ = gpu_streams <= 1 && !uses_host_;
  kvt_status status = reserve();
  if (status == KVT_OK) status = make_event(start_, true);
  if (status == KVT_OK) status = make_event(end_, true);
  if (status == KVT_OK) status = make_event(fork_, false);
  if (status == KVT_OK)
    status = checked(cudaEventCreateWithFlags(&over_, cudaEventDisableTiming | cudaEventBlockingSync), "run: event");
  for (int s = 0; s < kGpuStreams; s++)
    if (status == KVT_OK) status = make_event(join_[s], false);
  for (Step& step : steps_)
    if (status == KVT_OK && step.gpu_waits) status = make_event(step.done, false);
  return status;
}

}  // namespace kvt
