// The nvme tier: an unnamed file, read and written around the page cache where that is possible.
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <new>

#include "common.h"

#ifndef O_DIRECT
#define O_DIRECT 0
#endif

namespace kvt {
namespace {

constexpr uint64_t kBounceBytes = 1u << 20;

// Aligned memory of the calling thread, through which transfers go that are not aligned themselves.
char* bounce() {
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  thread_local std::unique_ptr<char, Free> memory(static_cast<char*>(std::aligned_alloc(kPage, kBounceBytes)));
  if (memory == nullptr) throw std::bad_alloc();
  return memory.get();
}

bool aligned(uint64_t offset, uint64_t bytes, const void* memory) {
  return ((offset | bytes | reinterpret_cast<uintptr_t>(memory)) & (kPage - 1)) == 0;
}

int open_unnamed(const std::string& path, int flags) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | flags, 0600);
  if (descriptor >= 0) unlink(path.c_str());
  return descriptor;
}

}  // namespace

kvt_status File::create(const std::string& path, uint64_t bytes, std::unique_ptr<File>* file) {
  bool direct = O_DIRECT != 0;
  int descriptor = open_unnamed(path, O_DIRECT);
  // A file system without O_DIRECT (tmpfs before Linux 6.6) says EINVAL.
  if (descriptor < 0 && errno == EINVAL) {
    direct = false;
    descriptor = open_unnamed(path, 0);
  }
  if (descriptor < 0) return fail(KVT_IO, "file %s: %s", path.c_str(), std::strerror(errno));
  std::unique_ptr<File> made(new File(descriptor, direct));
  struct statvfs system;
  const bool known = fstatvfs(descriptor, &system) == 0;
  const uint64_t free_bytes = known ? static_cast<uint64_t>(system.f_bavail) * system.f_frsize : UINT64_MAX;
  // Asked first, because reserving would fill the disk before it fails.
  if (bytes > free_bytes)
    return fail(KVT_IO, "file %s: no space for %" PRIu64 " bytes, %" PRIu64 " are free", path.c_str(), bytes, free_bytes);
#ifdef __linux__
  const int error = posix_fallocate(descriptor, 0, static_cast<off_t>(bytes));
#else
  const int error = ftruncate(descriptor, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
#endif
  if (error != 0) return fail(KVT_IO, "file %s: no %" PRIu64 " bytes: %s", path.c_str(), bytes, std::strerror(error));
  *file = std::move(made);
  return KVT_OK;
}

File::~File() { close(descriptor_); }

kvt_status File::transfer(bool writing, uint64_t offset, uint64_t bytes, char* memory) {
  while (bytes > 0) {
    const ssize_t done = writing ? pwrite(descriptor_, memory, bytes, static_cast<off_t>(offset))
                                 : pread(descriptor_, memory, bytes, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0)
      return fail(KVT_IO, "nvme: %s of %" PRIu64 " bytes at %" PRIu64 ": %s", writing ? "write" : "read", bytes, offset,
                  done == 0 ? "end of file" : std::strerror(errno));
#ifdef POSIX_FADV_DONTNEED
    if (!direct_) posix_fadvise(descriptor_, static_cast<off_t>(offset), done, POSIX_FADV_DONTNEED);
#endif
    offset += static_cast<uint64_t>(done);
    memory += done;
    bytes -= static_cast<uint64_t>(done);
  }
  return KVT_OK;
}

kvt_status File::read(uint64_t offset, uint64_t bytes, void* to) {
  if (!direct_ || aligned(offset, bytes, to)) return transfer(false, offset, bytes, static_cast<char*>(to));
  char* out = static_cast<char*>(to);
  while (bytes > 0) {
    const uint64_t first = offset / kPage * kPage;
    const uint64_t part = std::min(bytes, first + kBounceBytes - offset);
    const uint64_t window = (offset + part - first + kPage - 1) / kPage * kPage;
    if (const kvt_status status = transfer(false, first, window, bounce())) return status;
    std::memcpy(out, bounce() + (offset - first), part);
    out += part;
    offset += part;
    bytes -= part;
  }
  return KVT_OK;
}

kvt_status File::write(uint64_t offset, uint64_t bytes, const void* from) {
  const char* in = static_cast<const char*>(from);
  if (!direct_ || aligned(offset, bytes, from)) return transfer(true, offset, bytes, const_cast<char*>(in));
  while (bytes > 0) {
    const uint64_t within = offset % kPage;
    // Whole blocks together, parts of a block alone.
    const uint64_t whole = std::min(bytes / kPage * kPage, kBounceBytes);
    const uint64_t part = within == 0 && whole > 0 ? whole : std::min(bytes, kPage - within);
    if (const kvt_status status = write_part(offset, part, in)) return status;
    in += part;
    offset += part;
    bytes -= part;
  }
  return KVT_OK;
}

kvt_status File::write_part(uint64_t offset, uint64_t bytes, const char* from) {
  char* memory = bounce();
  if (offset % kPage == 0 && bytes % kPage == 0) {
    std::memcpy(memory, from, bytes);
    return transfer(true, offset, bytes, memory);
  }
  const uint64_t block = offset / kPage;
  const std::lock_guard<std::mutex> lock(blocks_[block % blocks_.size()]);
  if (const kvt_status status = transfer(false, block * kPage, kPage, memory)) return status;
  std::memcpy(memory + offset % kPage, from, bytes);
  return transfer(true, block * kPage, kPage, memory);
}

}  // namespace kvt
