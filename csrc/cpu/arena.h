// Allocator of typed arrays in the caller's workspace. With a null base it only counts the bytes.
#ifndef PFM_CPU_ARENA_H_
#define PFM_CPU_ARENA_H_

#include <cstddef>
#include <cstdint>

namespace pfm::cpu {

class Arena {
 public:
  static constexpr size_t kAlignment = 64;

  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}

  template <class T>
  T* Take(int64_t count) {
    char* at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<T*>(at);
  }

  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_ARENA_H_
