// Registered global memory with its shadow: which bytes were written, and who wrote and read them in the running
// launch.
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

  // What the current thread knows at a release is known to whoever acquires from that address. A release that adds to
  // the value (an atomic) leaves what was released there before to be acquired as well.
  void Release(int32_t* address, bool adds, Where where);
  void Acquire(const int32_t* address, Where where);
  void StartLaunch();

 private:
  // The last access of a kind to 4 bytes.
  struct Cell {
    uint32_t launch;
    uint32_t block;
    uint32_t releases;  // of the thread until then
    uint32_t stamp;
    Site site;
  };

  struct Allocation {
    uintptr_t begin;
    size_t bytes;
    std::string name;
    std::vector<uint8_t> written;     // 1 per byte
    std::vector<Cell> writes, reads;  // one per aligned 4 bytes
  };

  // A checked access: where it is in its allocation.
  struct Attempt {
    Allocation& allocation;
    size_t offset, bytes;
    Where where;
    const char* what;

    // Of cells. Empty for less than 4 bytes: neighbours in one word may belong to different threads.
    size_t first() const { return (allocation.begin % 4 + offset) / 4; }
    size_t end() const { return first() + bytes / 4; }
  };

  Allocation* Find(uintptr_t address);
  Attempt Access(const void* address, size_t bytes, Where where, const char* what);
  bool IsOrdered(const Cell& cell) const;
  bool IsOwn(const Cell& cell) const;
  [[noreturn]] void FailRace(const Attempt& attempt, const Cell& cell, const char* before) const;
  void CheckWritten(const Attempt& attempt) const;
  void CheckLastWrites(const Attempt& attempt, bool atomic) const;
  void CheckLastReads(const Attempt& attempt) const;
  void Note(Cell* cell, const Cell& now) const;
  void NoteReads(const Attempt& attempt);
  void NoteWrites(const Attempt& attempt, uint32_t flags);
  Cell CellOf(uint32_t flags, Where where) const;

  std::map<uintptr_t, std::unique_ptr<Allocation>> allocations_;  // by begin
  Allocation* last_ = nullptr;
  uint32_t launch_ = 0;
  std::map<uintptr_t, Knowledge> released_;  // by address
};

GlobalMemory& Global();

}  // namespace pfm::emulator

#endif  // PFM_EMULATOR_GLOBAL_MEMORY_H_
