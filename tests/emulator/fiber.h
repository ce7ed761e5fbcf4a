// Fibres: one stack per emulated CUDA thread and a switch between them that costs a few nanoseconds (ucontext makes a
// system call per switch).
#ifndef PFM_EMULATOR_FIBER_H_
#define PFM_EMULATOR_FIBER_H_

#include <cstddef>
#include <vector>

// Saves the callee-saved registers on the running stack and its stack pointer in *save, then resumes the fibre saved
// as `load`.
extern "C" void pfm_emulator_switch(void** save, void* load);

namespace pfm::emulator {

class FiberStacks {
 public:
  FiberStacks() = default;
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;
  ~FiberStacks();

  // Returns the stack pointer of a new fibre, which starts in `entry`; `entry` never returns.
  void* Prepare(size_t fiber, void (*entry)());

 private:
  std::vector<char*> stacks_;
};

}  // namespace pfm::emulator

#endif  // PFM_EMULATOR_FIBER_H_
