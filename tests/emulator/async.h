// Asynchronous operations of compute capability 9.0: mbarriers, bulk and tensor copies, and wgmma. A block has an
// AsyncState from its first such operation on. Writes of copies to shared memory have a clock, which orders them
// before threads that waited for them; operands in shared memory are released by a wait of the reading warp.
#ifndef PFM_EMULATOR_ASYNC_H_
#define PFM_EMULATOR_ASYNC_H_

#include <cstdint>
#include <map>
#include <vector>

#include "machine.h"

namespace pfm::emulator {

struct MBarrier {
  int count = 0, pending = 0;
  int64_t bytes = 0;                                             // expected but not copied yet
  uint32_t phase = 0;                                            // completed so far
  uint32_t arriving[kMaxWarps] = {}, completed[kMaxWarps] = {};  // clocks
  Access initialised = {};
  bool fenced = false;
  std::vector<Thread*> waiting;
};

// Contiguous bytes in global memory, and their offset in the box before swizzling.
struct Piece {
  uint8_t* global;
  size_t at;
  uint32_t bytes;
};

struct Load {
  Thread* thread;
  SharedAddress barrier;
  std::vector<SharedAddress> chunks;
  std::vector<uint8_t> data;  // of the source at the start
  std::vector<Piece> sources;
  Where where;
};

struct Store {
  Thread* thread;
  std::vector<SharedAddress> chunks;
  std::vector<uint8_t> data;
  std::vector<Piece> targets;
  bool adds;  // float32
  int64_t group;
  bool has_read;
  Where where;
};

struct WarpgroupState;

struct AsyncState {
  std::map<SharedAddress, MBarrier> barriers;
  std::vector<Load> loads;
  std::vector<Store> stores;
  std::map<int, int64_t> store_groups;  // committed, by thread
  std::map<int, std::shared_ptr<WarpgroupState>> warpgroups;
  std::vector<int> registers;  // per thread, by warp
};

// State of the running thread's block.
AsyncState& Async();
bool HasAsyncWork(const Block& block);
void DoAsyncWork(Block& block);  // a random operation
void CheckAsyncExit();           // of the running thread

void MbarrierInit(SharedAddress barrier, int count, Where where);
void FenceMbarrierInit();
void MbarrierArrive(SharedAddress barrier, int64_t expected_bytes, Where where);
bool MbarrierTest(SharedAddress barrier, int parity, Where where);
void MbarrierWait(SharedAddress barrier, int parity, Where where);
void FenceProxyAsync();

void StartLoad(std::vector<SharedAddress> chunks, std::vector<Piece> sources, SharedAddress barrier, Where where);
void StartStore(std::vector<SharedAddress> chunks, std::vector<Piece> targets, bool adds, Where where);
void BulkCommit();
void WaitStores(int groups, bool only_reads);

void SetRegisters(int registers, bool increases, Where where);
bool ElectOne(Where where);

// Instructions of a whole warp, executed by the last lane to arrive.
struct AsyncOperands {
  void (*execute)(Warp& warp);
};
void ExecuteAsync(Warp& warp);

// ---- wgmma (warpgroup.cc)

struct WgmmaOperands : AsyncOperands {
  float* sums;
  int columns;
  const uint32_t* a;  // registers; null: a_descriptor
  uint64_t a_descriptor, b_descriptor;
  bool a_transposed, b_transposed, accumulates, is_bfloat16;
};

void FenceWarpgroup(Where where);
void CommitWarpgroup(Where where);
void WaitWarpgroup(int groups, Where where);
void MultiplyWarpgroup(WgmmaOperands operands, Where where);
bool HasWarpgroupWork(const Thread& thread);

// Maps an address of an unswizzled layout to the swizzled one. span: 128, 64, 32 or 0.
inline SharedAddress Swizzle(SharedAddress address, int span) {
  return address ^ (address >> 7 & static_cast<uint32_t>(span / 16 - (span != 0))) << 4;
}

}  // namespace pfm::emulator

#endif  // PFM_EMULATOR_ASYNC_H_
