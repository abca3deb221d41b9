// Memory of the tiers hbm, dram and pageable: mapped, given huge pages (or none), touched.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "available.h"
#include "machine.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace kvt {
namespace {

constexpr uint64_t kHugePage = 2u << 20;
// As much as the widest element that kernels load alone.
constexpr uint64_t kFenceAlignment = 16;

void touch(char* memory, uint64_t bytes) {
#ifdef __linux__
  if (madvise(memory, bytes, MADV_POPULATE_WRITE) == 0) return;
#endif
  for (uint64_t at = 0; at < bytes; at += kPage) static_cast<volatile char*>(memory)[at] = 0;
}

kvt_status map_bytes(uint64_t bytes, uint64_t mapped, Buffer* buffer) {
  const uint64_t available = available_bytes();
  if (mapped < bytes || bytes > available)
    return fail(KVT_OUT_OF_HOST_MEMORY, "no memory for a buffer of %" PRIu64 " bytes; %" PRIu64 " bytes are available",
                bytes, available);
  void* mapping = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED)
    return fail(KVT_OUT_OF_HOST_MEMORY, "no memory for a buffer of %" PRIu64 " bytes: %s", bytes, std::strerror(errno));
  buffer->mapping = mapping;
  buffer->mapped = mapped;
  return KVT_OK;
}

}  // namespace

kvt_status allocate_memory(int32_t tier, uint64_t bytes, Buffer* buffer) {
  const bool huge = tier != KVT_PAGEABLE && bytes >= kHugePage;
  const uint64_t unit = huge ? kHugePage : kPage;
  const uint64_t size = (bytes + unit - 1) / unit * unit;
  if (const kvt_status status = map_bytes(bytes, huge ? size + kHugePage : size, buffer)) return status;
  const uintptr_t start = (reinterpret_cast<uintptr_t>(buffer->mapping) + unit - 1) / unit * unit;
  buffer->memory = reinterpret_cast<char*>(start);
#ifdef MADV_HUGEPAGE
  madvise(buffer->memory, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#endif
  touch(buffer->memory, size);
  return KVT_OK;
}

kvt_status allocate_fenced(uint64_t bytes, Buffer* buffer) {
  const uint64_t size = (bytes + kFenceAlignment - 1) / kFenceAlignment * kFenceAlignment;
  const uint64_t pages = (size + kPage - 1) / kPage * kPage;
  if (const kvt_status status = map_bytes(bytes, pages + 2 * kPage, buffer)) return status;
  char* first = static_cast<char*>(buffer->mapping);
  char* end = first + kPage + pages;
  if (mprotect(first, kPage, PROT_NONE) != 0 || mprotect(end, kPage, PROT_NONE) != 0)
    return fail(KVT_OUT_OF_HOST_MEMORY, "no fence around a buffer of %" PRIu64 " bytes: %s", bytes, std::strerror(errno));
  buffer->memory = end - size;
  return KVT_OK;
}

Buffer::~Buffer() {
  if (mapping != nullptr) munmap(mapping, mapped);
}

}  // namespace kvt
