// Checked access to the shared memory of the running thread's block. The shadow has, per 4-byte word, the last write
// and the last read by every warp.
#ifndef PFM_EMULATOR_SHARED_MEMORY_H_
#define PFM_EMULATOR_SHARED_MEMORY_H_

#include <cstdint>

#include "machine.h"

namespace pfm::emulator {

// Where dynamic shared memory starts: not at 0, and aligned to 128 bytes only, so that a kernel which forgets the
// start or counts on a greater alignment fails.
constexpr SharedAddress kDynamicShared = 1024 + 128;

// Each checks size, alignment and order, notes the access, and returns where the bytes are.
const uint8_t* ReadShared(SharedAddress address, uint32_t bytes, Where where);
uint8_t* WriteShared(SharedAddress address, uint32_t bytes, Where where);
uint8_t* AtomicShared(SharedAddress address, uint32_t bytes, Where where);
// A read on behalf of the whole warp, after which no lane counts as the reader.
const uint8_t* ReadSharedByWarp(SharedAddress address, uint32_t bytes, Where where);

// 16 bytes that an asynchronous operation is about to write. Until its end they may not be used. What threads wrote
// must have been fenced for the asynchronous proxy by those threads.
uint8_t* MarkAsyncWrite(SharedAddress address, Where where);
// 16 bytes that an asynchronous operation of the running warp reads from Begin on; the same about fences. They may be
// written by who is ordered after the wait that ends the read: a wait of the whole warp, or of the running thread.
const uint8_t* BeginAsyncRead(SharedAddress address, Where where);
void EndAsyncRead(SharedAddress address, bool by_warp, Where where);

void StartCopy(SharedAddress to, const void* from, Where where);
void CommitCopies();
// Lands the copies of all but the newest `groups` groups.
void WaitCopies(int groups);

}  // namespace pfm::emulator

#endif  // PFM_EMULATOR_SHARED_MEMORY_H_
