#include "shared_memory.h"

#include <cstring>

#include "global_memory.h"

namespace pfm::emulator {

namespace {

constexpr uint32_t kCopyBytes = 16;

std::string Words(uint32_t address, uint32_t bytes) {
  return std::to_string(bytes) + " bytes at byte " + std::to_string(address) + " of shared memory";
}

void CheckPlace(SharedAddress address, uint32_t bytes, Where where, const char* what) {
  const size_t size = current->block->shared.size();
  if (address % bytes != 0) machine.Fail(where, std::string("misaligned ") + what + " of " + Words(address, bytes));
  if (address >= size || bytes > size - address) {
    machine.Fail(where,
                 std::string(what) + " out of bounds: " + Words(address, bytes) + " of " + std::to_string(size));
  }
}

[[noreturn]] void FailRace(SharedAddress address, uint32_t bytes, uint32_t stamp, Where where, const char* what,
                           const char* before) {
  if (stamp == kStampInFlight) {
    for (const Thread& thread : current->block->threads) {
      for (const Copy& copy : thread.copies) {
        if (copy.to / kCopyBytes != address / kCopyBytes) continue;
        machine.Fail(where, std::string(what) + " of " + Words(address, bytes) +
                                " while an asynchronous copy of thread " + std::to_string(thread.index) + " from " +
                                Describe(copy.where) + " is in flight");
      }
    }
  }
  machine.Fail(where, std::string("race in shared memory: ") + what + " of " + Words(address, bytes) + ", " + before +
                          " by thread " + std::to_string(stamp & kStampThread) +
                          ((stamp & kStampSeveral) != 0 ? " and other lanes of its warp" : "") +
                          " with no barrier in between");
}

bool IsOwn(uint32_t stamp) {
  return (stamp & kStampSeveral) == 0 && (stamp & kStampThread) == static_cast<uint32_t>(current->index);
}

// Is the last write of a word ordered before what this thread, or if by_warp any lane of it, does now?
void CheckLastWrite(uint32_t stamp, bool by_warp, SharedAddress address, uint32_t bytes, Where where,
                    const char* what) {
  if (stamp == kStampInFlight) FailRace(address, bytes, stamp, where, what, "copied");
  if (IsOrderedBefore(*current->block, current->warp->index, stamp)) return;
  if (!by_warp && IsOwn(stamp)) return;
  FailRace(address, bytes, stamp, where, what, "written");
}

void NoteRead(uint32_t* read, uint32_t words, uint32_t stamp, bool by_warp) {
  for (uint32_t w = 0; w < words; ++w) {
    const bool joins_others = read[w] >> kStampEpochShift == stamp >> kStampEpochShift &&
                              (read[w] & (kStampThread | kStampSeveral)) != (stamp & kStampThread);
    read[w] = stamp | (by_warp || joins_others ? kStampSeveral : 0);
  }
}

const uint8_t* Read(SharedAddress address, uint32_t bytes, bool by_warp, Where where) {
  CheckPlace(address, bytes, where, "read");
  Block& block = *current->block;
  const uint32_t first = address / 4, words = bytes / 4;
  const uint32_t* written = block.written.data() + first;
  uint32_t last = 0;  // whole chunks usually have one writer
  for (uint32_t w = 0; w < words; ++w) {
    if (written[w] == 0) machine.Fail(where, "read of " + Words(address, bytes) + ", which nobody has written");
    if (written[w] == last) continue;
    last = written[w];
    CheckLastWrite(last, by_warp, address, bytes, where, "read");
  }
  NoteRead(block.read[current->warp->index].data() + first, words, StampOf(*current), by_warp);
  return block.shared.data() + address;
}

// Everything that a write at this place has to come after.
void CheckWrite(SharedAddress address, uint32_t bytes, bool atomic, Where where, const char* what) {
  Block& block = *current->block;
  const uint32_t first = address / 4, words = bytes / 4;
  for (uint32_t w = first; w < first + words; ++w) {
    const uint32_t stamp = block.written[w];
    const bool both_atomic = atomic && stamp != kStampInFlight && (stamp & kStampAtomic) != 0;
    if (stamp != 0 && !both_atomic) CheckLastWrite(stamp, false, address, bytes, where, what);
  }
  for (const std::vector<uint32_t>& read : block.read) {
    for (uint32_t w = first; w < first + words; ++w) {
      const uint32_t stamp = read[w];
      if (stamp == 0 || IsOrderedBefore(block, current->warp->index, stamp) || IsOwn(stamp)) continue;
      FailRace(address, bytes, stamp, where, what, "read");
    }
  }
}

uint8_t* Write(SharedAddress address, uint32_t bytes, uint32_t stamp, bool atomic, Where where, const char* what) {
  CheckPlace(address, bytes, where, what);
  CheckWrite(address, bytes, atomic, where, what);
  Block& block = *current->block;
  for (uint32_t w = address / 4; w < (address + bytes) / 4; ++w) block.written[w] = stamp;
  return block.shared.data() + address;
}

void Move(const Copy& copy) {
  uint8_t* to = current->block->shared.data() + copy.to;
  if (copy.from == nullptr) {
    std::memset(to, 0, kCopyBytes);
  } else {
    std::memcpy(to, copy.from, kCopyBytes);
  }
}

}  // namespace

const uint8_t* ReadShared(SharedAddress address, uint32_t bytes, Where where) {
  return Read(address, bytes, false, where);
}

const uint8_t* ReadSharedByWarp(SharedAddress address, uint32_t bytes, Where where) {
  return Read(address, bytes, true, where);
}

uint8_t* WriteShared(SharedAddress address, uint32_t bytes, Where where) {
  return Write(address, bytes, StampOf(*current), false, where, "write");
}

uint8_t* AtomicShared(SharedAddress address, uint32_t bytes, Where where) {
  CheckPlace(address, bytes, where, "atomic access");
  if (current->block->written[address / 4] == 0) {
    machine.Fail(where, "atomic access to " + Words(address, bytes) + ", which nobody has written");
  }
  return Write(address, bytes, StampOf(*current) | kStampAtomic, true, where, "atomic access");
}

// Until its wait a copy keeps the destination unusable. Half of the copies read their source at once, the others only
// when they land.
void StartCopy(SharedAddress to, const void* from, Where where) {
  Copy copy = {to, from, where, current->groups};
  if (from != nullptr) Global().Read(from, kCopyBytes, where);
  Write(to, kCopyBytes, kStampInFlight, false, where, "asynchronous copy");
  if ((machine.Random() & 1) != 0) {
    Move(copy);
    copy.from = current->block->shared.data() + to;
  }
  current->copies.push_back(copy);
  ++CurrentStatistics().async_copies;
}

void CommitCopies() { ++current->groups; }

void WaitCopies(int groups) {
  std::vector<Copy>& copies = current->copies;
  size_t landed = 0;
  while (landed < copies.size() && copies[landed].group < current->groups - groups) {
    const Copy& copy = copies[landed++];
    if (copy.from != current->block->shared.data() + copy.to) Move(copy);
    for (uint32_t w = 0; w < kCopyBytes / 4; ++w) current->block->written[copy.to / 4 + w] = StampOf(*current);
  }
  copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(landed));
}

}  // namespace pfm::emulator
