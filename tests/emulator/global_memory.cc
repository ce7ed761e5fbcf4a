#include "global_memory.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace pfm::emulator {

namespace {

void Join(const Knowledge& from, Knowledge* into) {
  for (const auto& [block, knowledge] : from) {
    BlockKnowledge& known = (*into)[block];
    for (int w = 0; w < kMaxWarps; ++w) known.epoch[w] = std::max(known.epoch[w], knowledge.epoch[w]);
    for (const auto& [thread, releases] : knowledge.own_accesses) {
      uint32_t& most = known.own_accesses[thread];
      most = std::max(most, releases);
    }
  }
}

// Whether an acquisition orders the current thread.
bool IsUsable(const Acquisition& acquisition) {
  return (acquisition.stamp & kStampThread) == static_cast<uint32_t>(current->index) ||
         IsOrderedBefore(*current->block, current->warp->index, acquisition.stamp);
}

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
  allocation->starts_written = written;
  if (!written && bytes != 0) std::memset(memory, 0xff, bytes);
  allocations_[begin] = std::move(allocation);
  last_ = nullptr;
}

void GlobalMemory::Unregister(void* memory) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(memory);
  allocations_.erase(begin);
  const auto divided = divided_.find(begin);
  if (divided != divided_.end()) {
    ForgetArrays(begin, divided->second);
    divided_.erase(divided);
  }
  last_ = nullptr;
}

std::map<uintptr_t, size_t>::iterator GlobalMemory::FindDivided(uintptr_t address) {
  auto next = divided_.upper_bound(address);
  if (next == divided_.begin()) return divided_.end();
  const auto found = std::prev(next);
  return address - found->first < found->second ? found : divided_.end();
}

void GlobalMemory::ForgetArrays(uintptr_t begin, size_t bytes) {
  allocations_.erase(allocations_.lower_bound(begin), allocations_.lower_bound(begin + bytes));
  last_ = nullptr;
}

void GlobalMemory::StartArrays(void* memory) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(memory);
  const Allocation* whole = Find(address);
  auto divided = FindDivided(address);
  if (divided == divided_.end()) {
    if (whole == nullptr) return;
    divided = divided_.emplace(whole->begin, whole->bytes).first;
  }
  ForgetArrays(divided->first, divided->second);
}

void GlobalMemory::NameArray(void* array, size_t bytes, const std::string& name) {
  if (FindDivided(reinterpret_cast<uintptr_t>(array)) != divided_.end()) Register(array, bytes, name, false);
}

// Splits words into cells per byte at the first access to part of a word, whose bytes may belong to different
// threads.
void GlobalMemory::MakeShadow(Allocation* allocation, size_t access_bytes) {
  if (allocation->writes.empty()) {
    allocation->written.assign(allocation->bytes, allocation->starts_written ? 1 : 0);
    allocation->writes.assign(allocation->bytes / 4 + 2, Cell());
    allocation->reads.assign(allocation->bytes / 4 + 2, Cell());
  }
  if (access_bytes >= allocation->unit) return;
  for (std::vector<Cell>* cells : {&allocation->writes, &allocation->reads}) {
    std::vector<Cell> of_bytes;
    for (const Cell& cell : *cells) of_bytes.insert(of_bytes.end(), allocation->unit, cell);
    cells->swap(of_bytes);
  }
  allocation->unit = 1;
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
  MakeShadow(allocation, allocation->unit);
  std::fill_n(allocation->written.begin() + (address - allocation->begin), bytes, 1);
}

int64_t GlobalMemory::FirstUnwritten(const void* memory) {
  const auto found = allocations_.find(reinterpret_cast<uintptr_t>(memory));
  if (found == allocations_.end()) throw Error("not the start of registered memory");
  MakeShadow(found->second.get(), found->second->unit);
  const std::vector<uint8_t>& written = found->second->written;
  const auto first = std::find(written.begin(), written.end(), 0);
  return first == written.end() ? -1 : first - written.begin();
}

std::vector<uint8_t> GlobalMemory::Arrays(size_t alignment) const {
  std::vector<uint8_t> bytes;
  for (const auto& [begin, size] : divided_) {
    for (auto at = allocations_.lower_bound(begin); at != allocations_.lower_bound(begin + size); ++at) {
      const uint8_t* const array = reinterpret_cast<const uint8_t*>(at->first);
      bytes.insert(bytes.end(), array, array + at->second->bytes);
      bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
    }
  }
  return bytes;
}

void GlobalMemory::StartLaunch() {
  ++launch_;
  released_.clear();
}

// Describes an access out of bounds relative to the nearest array, its most likely origin.
std::string GlobalMemory::NearestTo(uintptr_t address) const {
  const auto next = allocations_.upper_bound(address);
  const auto of = [](const Allocation& allocation) {
    return "the start of '" + allocation.name + "' of " + std::to_string(allocation.bytes) + " bytes";
  };
  const Allocation* below = next == allocations_.begin() ? nullptr : std::prev(next)->second.get();
  const Allocation* above = next == allocations_.end() ? nullptr : next->second.get();
  if (above != nullptr && (below == nullptr || above->begin - address < address - below->begin - below->bytes)) {
    return ", " + std::to_string(above->begin - address) + " bytes before " + of(*above);
  }
  return below == nullptr ? "" : ", " + std::to_string(address - below->begin) + " bytes after " + of(*below);
}

GlobalMemory::Attempt GlobalMemory::Access(const void* address, size_t bytes, Where where, const char* what) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  if (at % bytes != 0) {
    machine.Fail(where,
                 std::string("misaligned ") + what + " of " + std::to_string(bytes) + " bytes of global memory");
  }
  Allocation* allocation = Find(at);
  if (allocation == nullptr) {
    machine.Fail(where, std::string(what) + " of " + std::to_string(bytes) + " bytes out of bounds of global memory" +
                            NearestTo(at));
  }
  if (at - allocation->begin + bytes > allocation->bytes) {
    machine.Fail(where, std::string(what) + " of " + std::to_string(bytes) + " bytes across the end of '" +
                            allocation->name + "'");
  }
  machine.NoteAccess(where);
  MakeShadow(allocation, bytes);
  return {*allocation, at - allocation->begin, bytes, where, what};
}

bool GlobalMemory::IsOwn(const Cell& cell) const {
  return cell.block == static_cast<uint32_t>(current->block->index) &&
         (cell.stamp & kStampThread) == static_cast<uint32_t>(current->index);
}

// Whether the access is ordered before the current thread's. Own accesses are ordered otherwise.
bool GlobalMemory::IsOrdered(const Cell& cell) const {
  const Block& block = *current->block;
  const bool same_block = cell.block == static_cast<uint32_t>(block.index);
  if (same_block && IsOrderedBefore(block, current->warp->index, cell.stamp)) return true;
  const uint32_t thread = cell.stamp & kStampThread;
  for (const Acquisition& acquisition : block.acquisitions) {
    if (!IsUsable(acquisition)) continue;
    const auto found = acquisition.knowledge.find(cell.block);
    if (found == acquisition.knowledge.end()) continue;
    if (cell.stamp >> kStampEpochShift < found->second.epoch[thread / kLanes]) return true;
    const auto own = found->second.own_accesses.find(thread);
    if (own != found->second.own_accesses.end() && cell.releases < own->second) return true;
  }
  return false;
}

void GlobalMemory::FailRace(const Attempt& attempt, const Cell& cell, const char* before) const {
  machine.Fail(attempt.where, std::string("race in global memory: ") + attempt.what + " of '" +
                                  attempt.allocation.name + "' at byte " + std::to_string(attempt.offset) + ", " +
                                  before + " by block " + std::to_string(cell.block) + ", thread " +
                                  std::to_string(cell.stamp & kStampThread) +
                                  ((cell.stamp & kStampSeveral) != 0 ? " and others" : "") + " at " +
                                  Describe(PlaceOf(cell.site)) + " with nothing in between");
}

void GlobalMemory::CheckWritten(const Attempt& attempt) const {
  if (std::memchr(attempt.allocation.written.data() + attempt.offset, 0, attempt.bytes) == nullptr) return;
  machine.Fail(attempt.where, std::string(attempt.what) + " of '" + attempt.allocation.name + "' at byte " +
                                  std::to_string(attempt.offset) + ", which nobody has written");
}

void GlobalMemory::CheckLastWrites(const Attempt& attempt, bool atomic) const {
  for (size_t c = attempt.first(); c < attempt.end(); ++c) {
    const Cell& cell = attempt.allocation.writes[c];
    if (cell.launch != launch_ || IsOwn(cell) || IsOrdered(cell)) continue;
    if (atomic && (cell.stamp & kStampAtomic) != 0) continue;
    FailRace(attempt, cell, "written");
  }
}

void GlobalMemory::CheckLastReads(const Attempt& attempt) const {
  for (size_t c = attempt.first(); c < attempt.end(); ++c) {
    const Cell& cell = attempt.allocation.reads[c];
    if (cell.launch == launch_ && !IsOwn(cell) && !IsOrdered(cell)) FailRace(attempt, cell, "read");
  }
}

GlobalMemory::Cell GlobalMemory::CellOf(uint32_t flags, Where where) const {
  return {launch_, static_cast<uint32_t>(current->block->index), current->releases, StampOf(*current) | flags,
          SiteOf(where)};
}

// Keeps a random one of several unordered accesses.
void GlobalMemory::Note(Cell* cell, const Cell& now) const {
  const bool replaces = cell->launch != launch_ || IsOwn(*cell) || IsOrdered(*cell);
  if (replaces || (machine.Random() & 1) != 0) *cell = now;
  if (!replaces) cell->stamp |= kStampSeveral;
}

void GlobalMemory::NoteReads(const Attempt& attempt) {
  const Cell now = CellOf(0, attempt.where);
  for (size_t c = attempt.first(); c < attempt.end(); ++c) Note(&attempt.allocation.reads[c], now);
}

void GlobalMemory::NoteWrites(const Attempt& attempt, uint32_t flags) {
  std::memset(attempt.allocation.written.data() + attempt.offset, 1, attempt.bytes);
  const Cell now = CellOf(flags, attempt.where);
  for (size_t c = attempt.first(); c < attempt.end(); ++c) Note(&attempt.allocation.writes[c], now);
  machine.NoteProgress();
}

void GlobalMemory::Read(const void* address, size_t bytes, Where where) {
  const Attempt attempt = Access(address, bytes, where, "read");
  CheckWritten(attempt);
  CheckLastWrites(attempt, false);
  NoteReads(attempt);
}

void GlobalMemory::Write(void* address, size_t bytes, Where where) {
  const Attempt attempt = Access(address, bytes, where, "write");
  CheckLastWrites(attempt, false);
  CheckLastReads(attempt);
  NoteWrites(attempt, 0);
}

void GlobalMemory::Atomic(void* address, size_t bytes, Where where) {
  const Attempt attempt = Access(address, bytes, where, "atomic access");
  CheckWritten(attempt);
  CheckLastWrites(attempt, true);
  CheckLastReads(attempt);
  NoteWrites(attempt, kStampAtomic);
}

void GlobalMemory::Release(int32_t* address, Where where) {
  const Attempt attempt = Access(address, sizeof(*address), where, "release");
  CheckLastWrites(attempt, true);
  CheckLastReads(attempt);
  NoteWrites(attempt, kStampAtomic);
  Knowledge known;
  for (const Acquisition& acquisition : current->block->acquisitions) {
    if (IsUsable(acquisition)) Join(acquisition.knowledge, &known);
  }
  const Block& block = *current->block;
  BlockKnowledge& own = known[static_cast<uint32_t>(block.index)];
  for (int w = 0; w < kMaxWarps; ++w) own.epoch[w] = std::max(own.epoch[w], block.known[current->warp->index][w]);
  own.own_accesses[static_cast<uint32_t>(current->index)] = ++current->releases;
  released_[reinterpret_cast<uintptr_t>(address)] = std::move(known);
}

void GlobalMemory::Acquire(const int32_t* address, Where where) {
  const Attempt attempt = Access(address, sizeof(*address), where, "acquire");
  CheckWritten(attempt);
  CheckLastWrites(attempt, true);
  const auto released = released_.find(reinterpret_cast<uintptr_t>(address));
  if (released == released_.end()) return;
  std::vector<Acquisition>& acquisitions = current->block->acquisitions;
  if (acquisitions.empty() || acquisitions.back().stamp != StampOf(*current)) {
    acquisitions.push_back({StampOf(*current), {}});
  }
  Join(released->second, &acquisitions.back().knowledge);
}

}  // namespace pfm::emulator
