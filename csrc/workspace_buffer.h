// Memory that the operator keeps for the workspaces of the CPU kernels.
#ifndef PFM_WORKSPACE_BUFFER_H_
#define PFM_WORKSPACE_BUFFER_H_

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace pfm {

// Workspace of one thread, kept between calls and grown to the largest size requested. A new allocation per call
// would cost the page faults of tens of megabytes in every layer.
class WorkspaceBuffer {
 public:
  // Returns aligned memory, or null if there is not enough.
  void* AtLeast(size_t bytes) {
    if (bytes > size_) {
      memory_.reset(std::aligned_alloc(kAlignment, RoundUp(bytes)));
      size_ = memory_ == nullptr ? 0 : bytes;
    }
    return memory_.get();
  }

 private:
  static constexpr size_t kAlignment = 64;  // required by flashmask.h

  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  static size_t RoundUp(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  std::unique_ptr<void, Free> memory_;
  size_t size_ = 0;
};

}  // namespace pfm

#endif  // PFM_WORKSPACE_BUFFER_H_
