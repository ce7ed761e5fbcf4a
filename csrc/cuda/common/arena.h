// Bump allocator over a workspace. With a null workspace it only adds up the bytes.
#ifndef PFM_CUDA_COMMON_ARENA_H_
#define PFM_CUDA_COMMON_ARENA_H_

#include <cstddef>
#include <cstdint>

#include "../ptx/launch.h"

namespace pfm::cuda {

class Arena {
 public:
  static constexpr size_t kAlignment = 256;

  explicit Arena(void* workspace) : base_(static_cast<char*>(workspace)) {
    if (base_ != nullptr) ptx::StartArrays(base_);
  }

  template <class T>
  T* Take(int64_t count, const char* name) {
    const size_t at = used_ + ptx::RoomBeforeArray(), bytes = static_cast<size_t>(count) * sizeof(T);
    used_ = at + (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (base_ == nullptr) return nullptr;
    ptx::NameArray(base_ + at, bytes, name);
    return reinterpret_cast<T*>(base_ + at);
  }

  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_ARENA_H_
