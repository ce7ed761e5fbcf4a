// Registered global memory with its shadow: which bytes were written, and by which threads they were written and read
// in the running launch.
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
  void StartArrays(void* memory);
  void NameArray(void* array, size_t bytes, const std::string& name);
  void MarkWritten(const void* memory, size_t bytes);
  int64_t FirstUnwritten(const void* memory);
  std::vector<uint8_t> Arrays(size_t alignment) const;

  // Check and record an access by the current thread.
  void Read(const void* address, size_t bytes, Where where);
  void Write(void* address, size_t bytes, Where where);
  void Atomic(void* address, size_t bytes, Where where);

  // Makes what the current thread knows known to every thread that acquires from this address.
  void Release(int32_t* address, Where where);
  void Acquire(const int32_t* address, Where where);
  void StartLaunch();

 private:
  // Last access of one kind to a unit.
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
    bool starts_written;
    // From the first use on:
    std::vector<uint8_t> written;     // 1 per byte
    size_t unit = 4;                  // aligned bytes that have a cell; 1 once an access is smaller
    std::vector<Cell> writes, reads;  // of units
  };

  // Location of a checked access in its allocation.
  struct Attempt {
    Allocation& allocation;
    size_t offset, bytes;
    Where where;
    const char* what;

    // Of cells.
    size_t first() const { return (allocation.begin % 4 + offset) / allocation.unit; }
    size_t end() const { return first() + bytes / allocation.unit; }
  };

  Allocation* Find(uintptr_t address);
  static void MakeShadow(Allocation* allocation, size_t access_bytes);
  std::string NearestTo(uintptr_t address) const;
  std::map<uintptr_t, size_t>::iterator FindDivided(uintptr_t address);
  void ForgetArrays(uintptr_t begin, size_t bytes);
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
  std::map<uintptr_t, size_t> divided_;                           // bytes by begin of what arrays are in
  Allocation* last_ = nullptr;
  uint32_t launch_ = 0;
  std::map<uintptr_t, Knowledge> released_;  // by address
};

GlobalMemory& Global();

}  // namespace pfm::emulator

#endif  // PFM_EMULATOR_GLOBAL_MEMORY_H_
