#include "global_memory.h"

#include <algorithm>
#include <cstring>

namespace pfm::emulator {

namespace {

// Marks an atomic access for CheckOrder and Stamp.
constexpr bool kAtomic = true;

}  // namespace

GlobalMemory& Global() {
  static GlobalMemory memory;
  return memory;
}

void GlobalMemory::Register(void* memory, size_t bytes, const std::string& name, bool written) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(memory);
  auto allocation = std::make_unique<Allocation>();
  allocation->begin = begin;
  allocation->bytes = bytes;
  allocation->name = name;
  allocation->written.assign(bytes, written ? 1 : 0);
  allocation->cells.assign(bytes / 4 + 2, Cell());
  if (!written && bytes != 0) std::memset(memory, 0xff, bytes);
  allocations_[begin] = std::move(allocation);
  last_ = nullptr;
}

void GlobalMemory::Unregister(void* memory) {
  allocations_.erase(reinterpret_cast<uintptr_t>(memory));
  last_ = nullptr;
}

GlobalMemory::Allocation* GlobalMemory::Find(uintptr_t address) {
  if (last_ != nullptr && address >= last_->begin && address < last_->begin + last_->bytes) return last_;
  auto next = allocations_.upper_bound(address);
  if (next == allocations_.begin()) return nullptr;
  Allocation* found = std::prev(next)->second.get();
  if (address - found->begin >= found->bytes) return nullptr;
  return last_ = found;
}

void GlobalMemory::MarkWritten(const void* memory, size_t bytes) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(memory);
  Allocation* allocation = Find(address);
  if (bytes == 0) return;
  if (allocation == nullptr || address + bytes > allocation->begin + allocation->bytes) {
    throw Error("the host wrote to memory that is not registered");
  }
  std::fill_n(allocation->written.begin() + (address - allocation->begin), bytes, 1);
}

int64_t GlobalMemory::FirstUnwritten(const void* memory) {
  const auto found = allocations_.find(reinterpret_cast<uintptr_t>(memory));
  if (found == allocations_.end()) throw Error("not the start of registered memory");
  const std::vector<uint8_t>& written = found->second->written;
  const auto first = std::find(written.begin(), written.end(), 0);
  return first == written.end() ? -1 : first - written.begin();
}

void GlobalMemory::StartLaunch() {
  ++launch_;
  known_.clear();
  released_.clear();
}

GlobalMemory::Allocation& GlobalMemory::Access(const void* address, size_t bytes, Where where, const char* what) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  if (at % bytes != 0) {
    machine.Fail(where,
                 std::string("misaligned ") + what + " of " + std::to_string(bytes) + " bytes of global memory");
  }
  Allocation* allocation = Find(at);
  if (allocation == nullptr) {
    // The nearest allocation below, because an overrun is the usual cause.
    auto next = allocations_.upper_bound(at);
    std::string near;
    if (next != allocations_.begin()) {
      const Allocation& below = *std::prev(next)->second;
      near = ", " + std::to_string(at - below.begin) + " bytes after the start of '" + below.name + "' of " +
             std::to_string(below.bytes) + " bytes";
    }
    machine.Fail(where,
                 std::string(what) + " of " + std::to_string(bytes) + " bytes out of bounds of global memory" + near);
  }
  if (at - allocation->begin + bytes > allocation->bytes) {
    machine.Fail(where, std::string(what) + " of " + std::to_string(bytes) + " bytes across the end of '" +
                            allocation->name + "'");
  }
  return *allocation;
}

bool GlobalMemory::IsOrdered(const Cell& cell) const {
  const Block& block = *current->block;
  if (cell.launch != launch_) return true;
  if (cell.block == static_cast<uint32_t>(block.index)) {
    return (cell.stamp & kStampThread) == static_cast<uint32_t>(current->index) ||
           IsOrderedBefore(block, current->warp->index, cell.stamp);
  }
  const auto known = known_.find(static_cast<uint32_t>(block.index));
  if (known == known_.end()) return false;
  const auto clock = known->second.find(cell.block);
  return clock != known->second.end() && cell.clock < clock->second;
}

void GlobalMemory::CheckOrder(const Allocation& allocation, size_t offset, size_t bytes, bool atomic, Where where,
                              const char* what) {
  // Neighbours in one word may belong to different threads.
  if (bytes < 4) return;
  const size_t first = (allocation.begin % 4 + offset) / 4;
  for (size_t word = first; word < first + bytes / 4; ++word) {
    const Cell& cell = allocation.cells[word];
    if (cell.launch != launch_ || IsOrdered(cell)) continue;
    if (atomic && (cell.stamp & kStampAtomic) != 0) continue;
    machine.Fail(where, std::string("race in global memory: ") + what + " of '" + allocation.name + "' at byte " +
                            std::to_string(offset) + ", written by block " + std::to_string(cell.block) +
                            ", thread " + std::to_string(cell.stamp & kStampThread) + " with nothing in between");
  }
}

void GlobalMemory::Stamp(Allocation& allocation, size_t offset, size_t bytes, uint32_t flags) {
  std::memset(allocation.written.data() + offset, 1, bytes);
  if (bytes < 4) return;
  const uint32_t block = static_cast<uint32_t>(current->block->index);
  const auto known = known_.find(block);
  const uint32_t clock = known == known_.end() ? 0 : known->second[block];
  const size_t first = (allocation.begin % 4 + offset) / 4;
  std::fill_n(allocation.cells.begin() + first, bytes / 4, Cell{launch_, block, clock, StampOf(*current) | flags});
}

void GlobalMemory::Read(const void* address, size_t bytes, Where where) {
  Allocation& allocation = Access(address, bytes, where, "read");
  const size_t offset = reinterpret_cast<uintptr_t>(address) - allocation.begin;
  if (std::memchr(allocation.written.data() + offset, 0, bytes) != nullptr) {
    machine.Fail(
        where, "read of '" + allocation.name + "' at byte " + std::to_string(offset) + ", which nobody has written");
  }
  CheckOrder(allocation, offset, bytes, !kAtomic, where, "read");
}

void GlobalMemory::Write(void* address, size_t bytes, Where where) {
  Allocation& allocation = Access(address, bytes, where, "write");
  const size_t offset = reinterpret_cast<uintptr_t>(address) - allocation.begin;
  CheckOrder(allocation, offset, bytes, !kAtomic, where, "write");
  Stamp(allocation, offset, bytes, 0);
  machine.NoteProgress();
}

void GlobalMemory::Atomic(void* address, size_t bytes, Where where) {
  Allocation& allocation = Access(address, bytes, where, "atomic access");
  const size_t offset = reinterpret_cast<uintptr_t>(address) - allocation.begin;
  if (std::memchr(allocation.written.data() + offset, 0, bytes) != nullptr) {
    machine.Fail(where, "atomic access to '" + allocation.name + "' at byte " + std::to_string(offset) +
                            ", which nobody has written");
  }
  CheckOrder(allocation, offset, bytes, kAtomic, where, "atomic access");
  Stamp(allocation, offset, bytes, kStampAtomic);
}

void GlobalMemory::Release(const void* address) {
  const uint32_t block = static_cast<uint32_t>(current->block->index);
  Clocks& known = known_[block];
  ++known[block];
  Clocks& released = released_[reinterpret_cast<uintptr_t>(address)];
  for (const auto& [other, clock] : known) released[other] = std::max(released[other], clock);
  machine.NoteProgress();
}

void GlobalMemory::Acquire(const void* address) {
  const auto released = released_.find(reinterpret_cast<uintptr_t>(address));
  if (released == released_.end()) return;
  const uint32_t block = static_cast<uint32_t>(current->block->index);
  Clocks& known = known_[block];
  for (const auto& [other, clock] : released->second) {
    if (other != block) known[other] = std::max(known[other], clock);
  }
}

void Register(void* memory, size_t bytes, const std::string& name, bool written) {
  Global().Register(memory, bytes, name, written);
}
void Unregister(void* memory) { Global().Unregister(memory); }
void MarkWritten(const void* memory, size_t bytes) { Global().MarkWritten(memory, bytes); }
int64_t FirstUnwritten(const void* memory) { return Global().FirstUnwritten(memory); }

}  // namespace pfm::emulator

extern "C" {

void pfm_emulator_configure(uint64_t seed, int resident_blocks, int compute_capability, int shared_limit) {
  pfm::emulator::Options& options = pfm::emulator::CurrentOptions();
  options.seed = seed;
  options.resident_blocks = resident_blocks;
  options.compute_capability = compute_capability;
  options.shared_limit = shared_limit;
}

void pfm_emulator_register(void* memory, size_t bytes, const char* name, int written) {
  pfm::emulator::Register(memory, bytes, name, written != 0);
}

void pfm_emulator_unregister(void* memory) { pfm::emulator::Unregister(memory); }

int64_t pfm_emulator_first_unwritten(const void* memory) { return pfm::emulator::FirstUnwritten(memory); }
}
