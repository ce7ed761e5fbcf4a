#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <new>

#if !defined(__x86_64__)
#error "the fibre switch is written for x86-64"
#endif

asm(R"(
.text
.globl pfm_emulator_switch
.type pfm_emulator_switch, @function
pfm_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size pfm_emulator_switch, .-pfm_emulator_switch
)");

namespace pfm::emulator {

namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kGuardBytes = 4096;
constexpr size_t kPoisonedBytes = 16 * 1024;  // covers the variables of a kernel, so that unset ones are NaN
constexpr int kSavedRegisters = 6;

}  // namespace

FiberStacks::~FiberStacks() {
  for (char* stack : stacks_) munmap(stack, kStackBytes);
}

void* FiberStacks::Prepare(size_t fiber, void (*entry)()) {
  while (stacks_.size() <= fiber) {
    void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack, kGuardBytes, PROT_NONE) != 0) throw std::bad_alloc();
    stacks_.push_back(static_cast<char*>(stack));
  }
  // Stacks start at different offsets, or all of them would compete for the same sets of the cache.
  const size_t offset = fiber % 61 * 320 / 16 * 16;
  uint64_t* top = reinterpret_cast<uint64_t*>(stacks_[fiber] + kStackBytes - 16 - offset);
  std::memset(reinterpret_cast<char*>(top) - kPoisonedBytes, 0xff, kPoisonedBytes);
  *top = reinterpret_cast<uint64_t>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = 0;
  return top;
}

}  // namespace pfm::emulator
