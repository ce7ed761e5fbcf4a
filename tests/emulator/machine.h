// The emulated machine: threads, warps and blocks, their scheduling, and the clocks that order accesses independently
// of the schedule.
//
// Clocks: a warp has an epoch, which a barrier increases. known[a][b] is the first epoch of warp b that warp a has
// not been ordered after. An access by a thread t of warp b in epoch e is ordered before what a thread of warp a does
// now iff it is t's own or e < known[a][b]. Barriers join the clocks of their warps. Nothing else orders the lanes of
// a warp: shuffles and votes do not.
#ifndef PFM_EMULATOR_MACHINE_H_
#define PFM_EMULATOR_MACHINE_H_

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda/ptx/types.h"
#include "emulator.h"
#include "fiber.h"

namespace pfm::emulator {

using cuda::ptx::SharedAddress;
using cuda::ptx::Where;

constexpr int kLanes = 32;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr int kMaxWarps = 32;
constexpr int kBarriers = 16;

// Stamp of an access: epoch, flags, thread. 0: none.
constexpr uint32_t kStampThread = (1u << 10) - 1;
constexpr uint32_t kStampSeveral = 1u << 10;  // more than one lane of the thread's warp
constexpr uint32_t kStampAtomic = 1u << 11;
constexpr uint32_t kStampWaited = 1u << 11;  // of an asynchronous read ended by the wait of a whole warp
constexpr int kStampEpochShift = 12;
constexpr uint32_t kMaxEpoch = (1u << 20) - 2;
constexpr uint32_t kStampInFlight = 0xffffffffu;  // an asynchronous operation will write, or may still read, here
constexpr uint32_t kStampBarrier = 0xfffffffeu;   // the word belongs to an mbarrier

struct Block;
struct Warp;
struct AsyncState;  // of a block; async.h

// Number of a source location.
using Site = uint16_t;
Site SiteOf(Where where);
Where PlaceOf(Site site);

struct Access {
  uint32_t stamp;
  Site site;
};

// Asynchronous reads of 16 bytes by one warp: the last one that was waited for, or kStampInFlight.
struct AsyncRead {
  uint32_t stamp;
  Site site;
  uint16_t in_flight;  // reads that the warp has not waited for
};

struct Copy {
  SharedAddress to;
  const void* from;  // null: zeros
  Where where;
  int64_t group;
  uint8_t bytes[16];  // of the source at the start
};

struct Thread {
  void* stack = nullptr;
  int index = 0;
  int lane = 0;
  Warp* warp = nullptr;
  Block* block = nullptr;
  Where waits_at = {};
  const char* waits_for = nullptr;
  std::vector<Copy> copies;  // in flight, oldest first
  int64_t groups = 0;        // committed so far
  uint32_t releases = 0;     // so far
  int64_t loads = 0;         // counts.h
  int64_t most_in_flight = 0;
  // First epoch per warp that this thread alone is not ordered after; its warp learns it at the next barrier.
  uint32_t acquired[kMaxWarps] = {};
  std::vector<uint32_t> fences;  // epochs of its proxy fences
};

enum class Collective {
  kNone,
  kMma,
  kLoadMatrices,
  kLoadMatricesTransposed,
  kShuffle,
  kBallot,
  kReduceMin,
  kReduceMax,
  kSyncWarp,
  kNamedBarrier,
  kAsync
};
const char* NameOf(Collective collective);

struct Warp {
  Block* block = nullptr;
  int index = 0;
  uint32_t runnable = 0;
  uint32_t exited = 0;
  uint32_t order = 0;  // random: which lane goes first
  // The current collective.
  Collective collective = Collective::kNone;
  int detail = 0;  // must agree between the lanes as well
  Where where = {};
  uint32_t arrived = 0;
  void* operand[kLanes] = {};
};

struct Barrier {
  int arrived = 0;  // threads
  int expected = 0;
  Where where = {};
  uint32_t warps = 0;                // that arrived, at a named barrier
  uint32_t waiting[kMaxWarps] = {};  // lanes
  uint32_t clock[kMaxWarps] = {};    // join of those that arrived
};

// Accesses of another block that a thread is ordered after.
struct BlockKnowledge {
  uint32_t epoch[kMaxWarps] = {};             // per warp the first epoch that is not known
  std::map<uint32_t, uint32_t> own_accesses;  // per thread that released: its releases so far
};
using Knowledge = std::map<uint32_t, BlockKnowledge>;  // by block

// An acquire by a thread.
struct Acquisition {
  uint32_t stamp;
  Knowledge knowledge;
};

struct Block {
  int64_t index = 0;
  int live_threads = 0;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Barrier barriers[kBarriers];
  uint32_t epoch[kMaxWarps] = {};
  uint32_t known[kMaxWarps][kMaxWarps] = {};

  std::vector<Acquisition> acquisitions;
  int64_t bytes_in_flight = 0;  // counts.h: the most of each thread, added up

  std::vector<uint8_t> shared;
  // Per word of shared memory:
  std::vector<Access> written;            // the last write
  std::vector<uint32_t> readers;          // bits: warps that have read since then
  std::vector<std::vector<Access>> read;  // per warp: its last read
  std::vector<uint32_t> fences;           // how many proxy fences the writer had made

  std::shared_ptr<AsyncState> async;  // null until the first asynchronous operation of sm90
  // Per 16 bytes of shared memory, from then on:
  std::vector<uint32_t> async_readers;             // bits: warps whose operations have read since the last write
  std::vector<std::vector<AsyncRead>> async_read;  // per warp

  // Of warps and, with async, what tensor and bulk copies wrote to shared memory: the last.
  size_t clocks() const { return warps.size() + (async == nullptr ? 0 : 1); }
};

inline uint32_t StampOf(const Thread& thread) {
  return thread.block->epoch[thread.warp->index] << kStampEpochShift | static_cast<uint32_t>(thread.index);
}

class Machine {
 public:
  void Run(int64_t blocks, int threads, int shared_bytes, uint64_t seed, const std::function<void()>& body);

  // Called by the running thread.
  void Arrive(Collective collective, int detail, void* operand, Where where);
  void SyncThreads(Where where);
  void Poll(Where where);                     // yields to other threads now and then
  void Sleep(Where where, const char* what);  // until another thread makes the lane runnable
  [[noreturn]] void Fail(Where where, const std::string& message);

  uint32_t Random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return static_cast<uint32_t>(random_ >> 32);
  }
  // Notes progress that may end the polling of another thread.
  void NoteProgress() { polls_ = 0; }
  // Counts accesses, to detect endless loops.
  void NoteAccess(Where where) {
    if (++accesses_ > kMaxAccesses) FailEndless(where);
  }

  // Barriers, for Execute of a collective.
  void ArriveAtNamedBarrier(Warp& warp, int barrier, int threads, bool waits, Where where);
  void AdvanceEpoch(Block& block, int warp, Where where);

 private:
  static constexpr int64_t kMaxAccesses = 50000000;  // of one thread while no other runs

  static void ThreadMain();
  bool HasBlockToStart();
  void StartBlock(int slot);
  void RunNextOf(Warp& warp);
  void SwitchTo(Thread& thread);
  void SwitchToScheduler();
  void Exit();
  [[noreturn]] void FailEndless(Where where);
  void CompleteBarrier(Block& block, Barrier& barrier);
  [[noreturn]] void ReportDeadlock();
  bool DoAsyncWork();  // of a random block; false if there is none

  const std::function<void()>* body_ = nullptr;
  int64_t block_count_ = 0, next_block_ = 0;
  std::vector<int64_t> dispatch_;  // blocks that may start next, in any order
  int thread_count_ = 0, shared_bytes_ = 0;
  uint64_t random_ = 1;
  int64_t polls_ = 0;                             // since something else happened
  int64_t accesses_ = 0;                          // since the last switch
  std::vector<std::unique_ptr<Block>> resident_;  // by slot; null: none
  FiberStacks stacks_;
  void* scheduler_stack_ = nullptr;
  std::string error_;
  bool on_scheduler_ = false;  // asynchronous work is being done: no thread runs
};

extern Machine machine;
extern Thread* current;

// Whether the access of a stamp is ordered before the current thread's. Own accesses are ordered otherwise.
inline bool IsOrderedBefore(const Block& block, int warp, uint32_t stamp) {
  const uint32_t epoch = stamp >> kStampEpochShift, other = (stamp & kStampThread) / kLanes;
  return epoch < block.known[warp][other] || epoch < current->acquired[other];
}

// Executes a collective of a warp whose lanes have all arrived.
void Execute(Warp& warp);

// "file.h:12", without folders.
std::string Describe(Where where);
inline bool IsSamePlace(Where a, Where b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

}  // namespace pfm::emulator

#endif  // PFM_EMULATOR_MACHINE_H_
