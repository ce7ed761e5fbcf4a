// Checked access to the shared memory of the running thread's block. The shadow records the last write and the last
// read by every warp, per 4-byte word.
#ifndef PFM_EMULATOR_SHARED_MEMORY_H_
#define PFM_EMULATOR_SHARED_MEMORY_H_

#include <cstdint>

#include "machine.h"

namespace pfm::emulator {

// Start of dynamic shared memory: not 0, and aligned to 128 bytes only, so that kernels that forget the start or
// assume a larger alignment fail.
constexpr SharedAddress kDynamicShared = 1024 + 128;

// Check size, alignment and order, record the access, and return the address of the bytes.
const uint8_t* ReadShared(SharedAddress address, uint32_t bytes, Where where);
uint8_t* WriteShared(SharedAddress address, uint32_t bytes, Where where);
uint8_t* AtomicShared(SharedAddress address, uint32_t bytes, Where where);
// Read on behalf of the whole warp, attributed to no lane.
const uint8_t* ReadSharedByWarp(SharedAddress address, uint32_t bytes, Where where);

// Asynchronous write of 16 bytes, which must not be accessed until it ends. Earlier writes of threads must have been
// fenced for the asynchronous proxy by those threads.
uint8_t* MarkAsyncWrite(SharedAddress address, Where where);
// Asynchronous read of 16 bytes by the running warp, from Begin on, with the same rule for fences. Writes must be
// ordered after the wait that ends the read: of the whole warp, or of the running thread.
const uint8_t* BeginAsyncRead(SharedAddress address, Where where);
void EndAsyncRead(SharedAddress address, bool by_warp, Where where);

void StartCopy(SharedAddress to, const void* from, Where where);
void CommitCopies();
// Completes the copies of all but the newest `groups` groups.
void WaitCopies(int groups);

}  // namespace pfm::emulator

#endif  // PFM_EMULATOR_SHARED_MEMORY_H_
