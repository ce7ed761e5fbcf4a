// Registered global memory with its shadow: which bytes were written, and by whom in the running launch.
#ifndef PFM_EMULATOR_GLOBAL_MEMORY_H_
#define PFM_EMULATOR_GLOBAL_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "machine.h"

namespace pfm::emulator {

class GlobalMemory {
 public:
  void Register(void* memory, size_t bytes, const std::string& name, bool written);
  void Unregister(void* memory);
  void MarkWritten(const void* memory, size_t bytes);
  int64_t FirstUnwritten(const void* memory);

  // These check an access by the current thread and note it.
  void Read(const void* address, size_t bytes, Where where);
  void Write(void* address, size_t bytes, Where where);
  void Atomic(void* address, size_t bytes, Where where);

  // Orders what blocks did before a release at an address before what follows an acquire of it.
  void Release(const void* address);
  void Acquire(const void* address);
  void StartLaunch();

 private:
  // The last writer of 4 bytes.
  struct Cell {
    uint32_t launch;
    uint32_t block;
    uint32_t clock;  // of the block
    uint32_t stamp;  // of the thread
  };

  struct Allocation {
    uintptr_t begin;
    size_t bytes;
    std::string name;
    std::vector<uint8_t> written;  // 1 per byte
    std::vector<Cell> cells;       // one per aligned 4 bytes
  };

  using Clocks = std::map<uint32_t, uint32_t>;  // block -> clock

  Allocation* Find(uintptr_t address);
  Allocation& Access(const void* address, size_t bytes, Where where, const char* what);
  bool IsOrdered(const Cell& cell) const;
  void CheckOrder(const Allocation& allocation, size_t offset, size_t bytes, bool atomic, Where where,
                  const char* what);
  void Stamp(Allocation& allocation, size_t offset, size_t bytes, uint32_t flags);

  std::map<uintptr_t, std::unique_ptr<Allocation>> allocations_;  // by begin
  Allocation* last_ = nullptr;
  uint32_t launch_ = 0;
  std::map<uint32_t, Clocks> known_;      // by block
  std::map<uintptr_t, Clocks> released_;  // by address
};

GlobalMemory& Global();

}  // namespace pfm::emulator

#endif  // PFM_EMULATOR_GLOBAL_MEMORY_H_
