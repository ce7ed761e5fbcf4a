#include "shared_memory.h"

#include <cstring>

#include "counts.h"
#include "global_memory.h"

namespace pfm::emulator {

namespace {

constexpr uint32_t kCopyBytes = 16;

std::string Words(SharedAddress address, uint32_t bytes) {
  return std::to_string(bytes) + " bytes at byte " +
         std::to_string(static_cast<int64_t>(address) - int64_t{kDynamicShared}) + " of shared memory";
}

// Returns the offset in the block's memory.
uint32_t Place(SharedAddress address, uint32_t bytes, Where where, const char* what) {
  const size_t size = current->block->shared.size();
  const uint32_t offset = address - kDynamicShared;
  if (address % bytes != 0) machine.Fail(where, std::string("misaligned ") + what + " of " + Words(address, bytes));
  if (offset >= size || bytes > size - offset) {
    machine.Fail(where,
                 std::string(what) + " out of bounds: " + Words(address, bytes) + " of " + std::to_string(size));
  }
  machine.NoteAccess(where);
  return offset;
}

// The current access, for checks and reports.
struct Attempt {
  SharedAddress address;
  uint32_t bytes;
  Where where;
  const char* what;
};

[[noreturn]] void FailRace(const Attempt& attempt, const Access& other, const char* before) {
  const std::string words = Words(attempt.address, attempt.bytes);
  if (other.stamp == kStampBarrier) {
    machine.Fail(attempt.where, std::string(attempt.what) + " of " + words + ", where an mbarrier is");
  }
  if (other.stamp == kStampInFlight) {
    for (const Thread& thread : current->block->threads) {
      for (const Copy& copy : thread.copies) {
        if (copy.to / kCopyBytes != attempt.address / kCopyBytes) continue;
        machine.Fail(attempt.where, std::string(attempt.what) + " of " + words +
                                        " while an asynchronous copy of thread " + std::to_string(thread.index) +
                                        " from " + Describe(copy.where) + " is in flight");
      }
    }
  }
  const uint32_t thread = other.stamp & kStampThread;
  const bool by_engine = other.stamp == kStampInFlight || thread >= current->block->threads.size();
  if (by_engine) {
    machine.Fail(attempt.where, std::string("race in shared memory: ") + attempt.what + " of " + words + ", " +
                                    before + " by the asynchronous operation of " + Describe(PlaceOf(other.site)) +
                                    (other.stamp == kStampInFlight ? " in flight" : " that was not waited for"));
  }
  machine.Fail(attempt.where, std::string("race in shared memory: ") + attempt.what + " of " + words + ", " + before +
                                  " by thread " + std::to_string(thread) +
                                  ((other.stamp & kStampSeveral) != 0 ? " and others" : "") + " at " +
                                  Describe(PlaceOf(other.site)) + " with no barrier in between");
}

bool IsOwn(uint32_t stamp) {
  return (stamp & kStampSeveral) == 0 && (stamp & kStampThread) == static_cast<uint32_t>(current->index);
}

[[noreturn]] void FailAsyncRace(const Attempt& attempt, int warp, const AsyncRead& read) {
  const bool in_flight = read.stamp == kStampInFlight, by_warp = (read.stamp & kStampWaited) != 0;
  machine.Fail(attempt.where, std::string("race in shared memory: ") + attempt.what + " of " +
                                  Words(attempt.address, attempt.bytes) + ", read " +
                                  (in_flight ? "for" : "until the wait of") + (by_warp ? " warp " : " thread ") +
                                  std::to_string(by_warp ? warp : read.stamp & kStampThread) +
                                  " by the asynchronous operation of " + Describe(PlaceOf(read.site)) +
                                  (in_flight ? " in flight" : ""));
}

// Whether the last write of a word is ordered before the current access of this thread or, if by_warp, of any lane.
void CheckLastWrite(const Access& written, bool by_warp, const Attempt& attempt) {
  if (written.stamp == kStampInFlight) FailRace(attempt, written, "copied");
  if (IsOrderedBefore(*current->block, current->warp->index, written.stamp)) return;
  if (!by_warp && IsOwn(written.stamp)) return;
  FailRace(attempt, written, "written");
}

void NoteRead(Access* read, uint32_t words, Access access, bool by_warp) {
  for (uint32_t w = 0; w < words; ++w) {
    const uint32_t last = read[w].stamp;
    const bool joins_others = last >> kStampEpochShift == access.stamp >> kStampEpochShift &&
                              (last & (kStampThread | kStampSeveral)) != (access.stamp & kStampThread);
    read[w] = {access.stamp | (by_warp || joins_others ? kStampSeveral : 0), access.site};
  }
}

const uint8_t* Read(SharedAddress address, uint32_t bytes, bool by_warp, Where where) {
  const Attempt attempt = {address, bytes, where, "read"};
  const uint32_t offset = Place(address, bytes, where, attempt.what);
  Block& block = *current->block;
  const uint32_t first = offset / 4, words = bytes / 4;
  const Access* written = block.written.data() + first;
  uint32_t last = 0;  // whole chunks usually have one writer
  for (uint32_t w = 0; w < words; ++w) {
    const uint32_t stamp = written[w].stamp;
    if (stamp == 0) machine.Fail(where, "read of " + Words(address, bytes) + ", which nobody has written");
    if (stamp == last) continue;
    last = stamp;
    CheckLastWrite(written[w], by_warp, attempt);
  }
  const int warp = current->warp->index;
  NoteRead(block.read[warp].data() + first, words, {StampOf(*current), SiteOf(where)}, by_warp);
  for (uint32_t w = 0; w < words; ++w) block.readers[first + w] |= 1u << warp;
  return block.shared.data() + offset;
}

// Requires that every warp with an asynchronous read has waited, and that these waits are ordered before the write.
void CheckAsyncReads(uint32_t offset, const Attempt& attempt) {
  const Block& block = *current->block;
  const int own_warp = current->warp->index;
  for (uint32_t readers = block.async_readers[offset / kCopyBytes]; readers != 0; readers &= readers - 1) {
    const int warp = __builtin_ctz(readers);
    const AsyncRead& read = block.async_read[warp][offset / kCopyBytes];
    if (read.stamp == kStampInFlight) FailAsyncRace(attempt, warp, read);
    const bool is_own = (read.stamp & kStampWaited) != 0 ? warp == own_warp : IsOwn(read.stamp);
    if (!is_own && !IsOrderedBefore(block, own_warp, read.stamp)) FailAsyncRace(attempt, warp, read);
  }
}

// Checks that all earlier accesses to the location are ordered before a write.
void CheckWrite(uint32_t offset, bool atomic, const Attempt& attempt) {
  Block& block = *current->block;
  const uint32_t first = offset / 4, end = (offset + attempt.bytes) / 4;
  uint32_t readers = 0;
  for (uint32_t w = first; w < end; ++w) {
    const Access& written = block.written[w];
    const bool both_atomic = atomic && written.stamp < kStampBarrier && (written.stamp & kStampAtomic) != 0;
    if (written.stamp != 0 && !both_atomic) CheckLastWrite(written, false, attempt);
    readers |= block.readers[w];
  }
  for (; readers != 0; readers &= readers - 1) {
    const std::vector<Access>& read = block.read[__builtin_ctz(readers)];
    for (uint32_t w = first; w < end; ++w) {
      const uint32_t stamp = read[w].stamp;
      if (stamp == 0 || IsOrderedBefore(block, current->warp->index, stamp) || IsOwn(stamp)) continue;
      FailRace(attempt, read[w], "read");
    }
  }
  if (block.async != nullptr) CheckAsyncReads(offset, attempt);
}

// Returns the offset.
uint32_t Write(uint32_t stamp, bool atomic, const Attempt& attempt) {
  const uint32_t offset = Place(attempt.address, attempt.bytes, attempt.where, attempt.what);
  CheckWrite(offset, atomic, attempt);
  Block& block = *current->block;
  const Access access = {stamp, SiteOf(attempt.where)};
  const uint32_t fences = static_cast<uint32_t>(current->fences.size());
  for (uint32_t w = offset / 4; w < (offset + attempt.bytes) / 4; ++w) {
    block.written[w] = access;
    block.fences[w] = fences;
    if (!atomic) block.readers[w] = 0;  // ordered after this write means ordered after them
  }
  if (block.async != nullptr && attempt.bytes == kCopyBytes) block.async_readers[offset / kCopyBytes] = 0;
  return offset;
}

}  // namespace

const uint8_t* ReadShared(SharedAddress address, uint32_t bytes, Where where) {
  return Read(address, bytes, false, where);
}

const uint8_t* ReadSharedByWarp(SharedAddress address, uint32_t bytes, Where where) {
  return Read(address, bytes, true, where);
}

uint8_t* WriteShared(SharedAddress address, uint32_t bytes, Where where) {
  return current->block->shared.data() + Write(StampOf(*current), false, {address, bytes, where, "write"});
}

uint8_t* AtomicShared(SharedAddress address, uint32_t bytes, Where where) {
  const Attempt attempt = {address, bytes, where, "atomic access"};
  Block& block = *current->block;
  Access& written = block.written[Place(address, bytes, where, attempt.what) / 4];
  const Access before = written;
  if (before.stamp == 0) {
    machine.Fail(where, "atomic access to " + Words(address, bytes) + ", which nobody has written");
  }
  const uint32_t offset = Write(StampOf(*current) | kStampAtomic, true, attempt);
  // Keeps a random one of several unordered atomic accesses.
  if (!IsOwn(before.stamp) && !IsOrderedBefore(block, current->warp->index, before.stamp)) {
    if ((machine.Random() & 1) != 0) written = before;
    written.stamp |= kStampSeveral;
  }
  return block.shared.data() + offset;
}

namespace {

// Whether the writer of each word made a proxy fence after it that is ordered before the current access.
void CheckProxy(uint32_t offset, const Attempt& attempt) {
  const Block& block = *current->block;
  for (uint32_t w = offset / 4; w < (offset + attempt.bytes) / 4; ++w) {
    const Access& written = block.written[w];
    const uint32_t writer = written.stamp & kStampThread;
    if (written.stamp == 0 || writer >= block.threads.size()) continue;
    const std::vector<uint32_t>& fences = block.threads[writer].fences;
    const uint32_t before = block.fences[w];
    const bool own = static_cast<int>(writer) == current->index;
    if (before < fences.size() &&
        (own || IsOrderedBefore(block, current->warp->index, fences[before] << kStampEpochShift | writer))) {
      continue;
    }
    machine.Fail(attempt.where, std::string(attempt.what) + " of " + Words(attempt.address, attempt.bytes) +
                                    ", written by thread " + std::to_string(writer) + " at " +
                                    Describe(PlaceOf(written.site)) + " with no FenceProxyAsync after it");
  }
}

}  // namespace

uint8_t* MarkAsyncWrite(SharedAddress address, Where where) {
  const Attempt attempt = {address, kCopyBytes, where, "asynchronous write"};
  CheckProxy(Place(address, kCopyBytes, where, attempt.what), attempt);
  return current->block->shared.data() + Write(kStampInFlight, false, attempt);
}

const uint8_t* BeginAsyncRead(SharedAddress address, Where where) {
  const Attempt attempt = {address, kCopyBytes, where, "asynchronous read"};
  const uint32_t offset = Place(address, kCopyBytes, where, attempt.what);
  Block& block = *current->block;
  for (uint32_t w = offset / 4; w < (offset + kCopyBytes) / 4; ++w) {
    const Access& written = block.written[w];
    if (written.stamp == 0) {
      machine.Fail(where, "asynchronous read of " + Words(address, kCopyBytes) + ", which nobody has written");
    }
    CheckLastWrite(written, false, attempt);
  }
  CheckProxy(offset, attempt);
  const int warp = current->warp->index;
  AsyncRead& read = block.async_read[warp][offset / kCopyBytes];
  read = {kStampInFlight, SiteOf(where), static_cast<uint16_t>(read.in_flight + 1)};
  block.async_readers[offset / kCopyBytes] |= 1u << warp;
  return block.shared.data() + offset;
}

void EndAsyncRead(SharedAddress address, bool by_warp, Where where) {
  AsyncRead& read = current->block->async_read[current->warp->index][(address - kDynamicShared) / kCopyBytes];
  if (--read.in_flight != 0) return;
  read.stamp = StampOf(*current) | (by_warp ? kStampWaited : 0);
  read.site = SiteOf(where);
}

// Until its wait, a copy keeps the destination unusable, and the source must not change: the hardware may read it at
// any time.
void StartCopy(SharedAddress to, const void* from, Where where) {
  Copy copy = {to, from, where, current->groups, {}};
  if (from != nullptr) {
    Global().Read(from, kCopyBytes, where);
    std::memcpy(copy.bytes, from, kCopyBytes);
  }
  Write(kStampInFlight, false, {to, kCopyBytes, where, "asynchronous copy"});
  current->copies.push_back(copy);
}

void CommitCopies() { ++current->groups; }

void WaitCopies(int groups) {
  std::vector<Copy>& copies = current->copies;
  Block& block = *current->block;
  size_t landed = 0;
  while (landed < copies.size() && copies[landed].group < current->groups - groups) {
    const Copy& copy = copies[landed++];
    if (copy.from != nullptr && std::memcmp(copy.bytes, copy.from, kCopyBytes) != 0) {
      machine.Fail(copy.where, "the source of this asynchronous copy was changed while it was in flight");
    }
    const uint32_t offset = copy.to - kDynamicShared;
    std::memcpy(block.shared.data() + offset, copy.bytes, kCopyBytes);
    const Access access = {StampOf(*current), SiteOf(copy.where)};
    for (uint32_t w = 0; w < kCopyBytes / 4; ++w) block.written[offset / 4 + w] = access;
  }
  copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(landed));
  CountWait();
}

}  // namespace pfm::emulator
