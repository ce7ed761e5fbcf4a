#include "machine.h"

#include <algorithm>
#include <cstring>

#include "async.h"
#include "global_memory.h"

namespace pfm::emulator {

Machine machine;
Thread* current = nullptr;

namespace {

constexpr int64_t kMaxPolls = 500000;  // without anything else happening
constexpr uint32_t kPreemption = 16;   // one in so many collectives lets another warp run

constexpr uint32_t kAsyncDelay = 8;  // one in so many switches lets asynchronous work be done

// Places in the source by their number. Open addressing; number 0 is no place.
constexpr uint32_t kMaxSites = 1 << 14;
Where sites[kMaxSites];

}  // namespace

std::recursive_mutex& Mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

Options& CurrentOptions() {
  static Options options;
  return options;
}

const char* NameOf(Collective collective) {
  switch (collective) {
    case Collective::kNone:
      return "nothing";
    case Collective::kMma:
      return "Mma16x8x16";
    case Collective::kLoadMatrices:
      return "LoadMatrices";
    case Collective::kLoadMatricesTransposed:
      return "LoadMatricesTransposed";
    case Collective::kShuffle:
      return "Shuffle";
    case Collective::kBallot:
      return "Ballot";
    case Collective::kReduce:
      return "Reduce";
    case Collective::kSyncWarp:
      return "SyncWarp";
    case Collective::kNamedBarrier:
      return "BarrierSync or BarrierArrive";
    case Collective::kAsync:
      return "an instruction of a warp or warpgroup";
  }
  return "?";
}

Site SiteOf(Where where) {
  uint32_t site = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(where.file) * 31 + where.line * 2654435761u);
  for (uint32_t tries = 0; tries < kMaxSites; ++tries) {
    site = (site + 1) % kMaxSites;
    if (site == 0) continue;
    if (sites[site].file == nullptr) sites[site] = where;
    if (sites[site].file == where.file && sites[site].line == where.line) return static_cast<Site>(site);
  }
  return 0;
}

Where PlaceOf(Site site) { return sites[site]; }

std::string Describe(Where where) {
  if (where.file == nullptr) return "?";
  const char* slash = std::strrchr(where.file, '/');
  return std::string(slash == nullptr ? where.file : slash + 1) + ":" + std::to_string(where.line);
}

void Machine::Run(int64_t blocks, int threads, int shared_bytes, uint64_t seed, const std::function<void()>& body) {
  if (current != nullptr) throw Error("a launch inside a kernel");
  if (threads <= 0 || threads % kLanes != 0 || threads > kMaxWarps * kLanes) {
    throw Error("a block of " + std::to_string(threads) + " threads: expected a multiple of 32 up to 1024");
  }
  if (shared_bytes > CurrentOptions().shared_limit) {
    throw Error(std::to_string(shared_bytes) + " bytes of shared memory: the limit is " +
                std::to_string(CurrentOptions().shared_limit));
  }
  body_ = &body;
  block_count_ = blocks;
  next_block_ = 0;
  thread_count_ = threads;
  shared_bytes_ = shared_bytes;
  random_ = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
  polls_ = accesses_ = 0;
  error_.clear();
  resident_.resize(CurrentOptions().resident_blocks);
  for (auto& block : resident_) block.reset();
  Global().StartLaunch();

  std::vector<Warp*> ready;
  while (error_.empty()) {
    ready.clear();
    bool any_block = false;
    for (size_t slot = 0; slot < resident_.size(); ++slot) {
      if (resident_[slot] != nullptr && resident_[slot]->live_threads == 0) resident_[slot].reset();
      if (resident_[slot] == nullptr && next_block_ < block_count_) StartBlock(static_cast<int>(slot));
      if (resident_[slot] == nullptr) continue;
      any_block = true;
      for (Warp& warp : resident_[slot]->warps) {
        if (warp.runnable != 0) ready.push_back(&warp);
      }
    }
    if (!any_block) break;
    // Asynchronous work gets done at random times, and at the latest when everybody waits.
    if (ready.empty() || Random() % kAsyncDelay == 0) {
      try {
        if (DoAsyncWork()) continue;
        if (ready.empty()) ReportDeadlock();
      } catch (const Error& error) {
        error_ = error.what();
        break;
      }
    }
    RunNextOf(*ready[Random() % ready.size()]);
  }
  current = nullptr;
  for (auto& block : resident_) block.reset();
  if (!error_.empty()) throw Error(error_);
}

void Machine::StartBlock(int slot) {
  auto block = std::make_unique<Block>();
  block->index = next_block_++;
  block->live_threads = thread_count_;
  block->threads.resize(thread_count_);
  block->warps.resize(thread_count_ / kLanes);
  const size_t words = (static_cast<size_t>(shared_bytes_) + 3) / 4;
  block->shared.assign(words * 4, 0xff);
  block->written.assign(words, Access());
  block->fences.assign(words, 0);
  block->read.assign(block->warps.size(), std::vector<Access>(words, Access()));
  for (size_t w = 0; w < block->warps.size(); ++w) {
    Warp& warp = block->warps[w];
    warp.block = block.get();
    warp.index = static_cast<int>(w);
    warp.runnable = kAllLanes;
    warp.order = Random();
    block->epoch[w] = block->known[w][w] = 1;
  }
  for (int t = 0; t < thread_count_; ++t) {
    Thread& thread = block->threads[t];
    thread.index = t;
    thread.lane = t % kLanes;
    thread.warp = &block->warps[t / kLanes];
    thread.block = block.get();
    thread.stack = stacks_.Prepare(static_cast<size_t>(slot) * thread_count_ + t, ThreadMain);
  }
  resident_[slot] = std::move(block);
}

void Machine::ThreadMain() {
  (*machine.body_)();
  machine.Exit();
}

void Machine::Exit() {
  Warp& warp = *current->warp;
  if (!current->copies.empty()) {
    Fail(current->copies.front().where, "the thread returned while this asynchronous copy was in flight");
  }
  CheckAsyncExit();
  warp.exited |= 1u << current->lane;
  warp.runnable &= ~(1u << current->lane);
  if (--warp.block->live_threads == 0) {
    for (const Barrier& barrier : warp.block->barriers) {
      if (barrier.arrived == 0) continue;
      Fail(barrier.where, "the block returned while a barrier waited for " +
                              std::to_string(barrier.expected - barrier.arrived) + " more threads");
    }
  }
  NoteProgress();
  if (warp.runnable != 0) RunNextOf(warp);
  SwitchToScheduler();
}

// Lanes of a warp run one after the other, from a random one on, upwards or downwards.
void Machine::RunNextOf(Warp& warp) {
  const int start = static_cast<int>(warp.order % kLanes);
  const uint32_t turned = start == 0 ? warp.runnable : warp.runnable >> start | warp.runnable << (kLanes - start);
  const int picked = (warp.order & kLanes) != 0 ? __builtin_ctz(turned) : kLanes - 1 - __builtin_clz(turned);
  SwitchTo(warp.block->threads[warp.index * kLanes + (picked + start) % kLanes]);
}

void Machine::SwitchTo(Thread& thread) {
  if (&thread == current) return;
  accesses_ = 0;
  void** save = current == nullptr ? &scheduler_stack_ : &current->stack;
  current = &thread;
  pfm_emulator_switch(save, thread.stack);
}

void Machine::SwitchToScheduler() {
  void** save = &current->stack;
  current = nullptr;
  pfm_emulator_switch(save, scheduler_stack_);
}

void Machine::Fail(Where where, const std::string& message) {
  error_ = "block " + std::to_string(current->block->index) + ", thread " + std::to_string(current->index) +
           " (warp " + std::to_string(current->warp->index) + ", lane " + std::to_string(current->lane) + "), " +
           Describe(where) + ": " + message;
  if (on_scheduler_) throw Error(error_);
  SwitchToScheduler();
  __builtin_unreachable();
}

void Machine::Arrive(Collective collective, int detail, void* operand, Where where) {
  Warp& warp = *current->warp;
  Thread& self = *current;
  if (warp.arrived == 0) {
    warp.collective = collective;
    warp.detail = detail;
    warp.where = where;
  } else if (warp.collective != collective || warp.detail != detail || !IsSamePlace(warp.where, where)) {
    Fail(where, std::string("lanes of a warp in different collectives: ") + NameOf(collective) + " here, others in " +
                    NameOf(warp.collective) + " at " + Describe(warp.where));
  }
  warp.operand[self.lane] = operand;
  warp.arrived |= 1u << self.lane;
  if (warp.arrived != kAllLanes) {
    self.waits_at = where;
    self.waits_for = NameOf(collective);
    warp.runnable &= ~(1u << self.lane);
    if (warp.runnable != 0) {
      RunNextOf(warp);
    } else {
      SwitchToScheduler();
    }
    return;
  }
  warp.arrived = 0;
  warp.runnable = kAllLanes;
  warp.order = Random();
  Execute(warp);
  // After a named barrier this lane itself may have to wait.
  if ((warp.runnable >> self.lane & 1) == 0 || warp.order % kPreemption == 0) SwitchToScheduler();
}

void Machine::AdvanceEpoch(Block& block, int warp, Where where) {
  if (block.epoch[warp] == kMaxEpoch) Fail(where, "more barriers than the emulator can count");
  block.known[warp][warp] = ++block.epoch[warp];
  if (block.async == nullptr) return;
  for (int lane = 0; lane < kLanes; ++lane) {
    const Thread& thread = block.threads[warp * kLanes + lane];
    for (size_t v = 0; v < block.clocks(); ++v) {
      block.known[warp][v] = std::max(block.known[warp][v], thread.acquired[v]);
    }
  }
}

void Machine::SyncThreads(Where where) {
  Thread& self = *current;
  Block& block = *self.block;
  Barrier& barrier = block.barriers[0];
  if (barrier.arrived == 0) {
    barrier.expected = thread_count_;
    barrier.where = where;
  } else if (!IsSamePlace(barrier.where, where)) {
    Fail(where, "threads of a block in different SyncThreads: others wait at " + Describe(barrier.where));
  }
  ++barrier.arrived;
  barrier.waiting[self.warp->index] |= 1u << self.lane;
  self.warp->runnable &= ~(1u << self.lane);
  self.waits_at = where;
  self.waits_for = "SyncThreads";
  if (barrier.arrived == barrier.expected) {
    for (size_t w = 0; w < block.warps.size(); ++w) AdvanceEpoch(block, static_cast<int>(w), where);
    for (size_t w = 0; w < block.warps.size(); ++w) barrier.clock[w] = block.epoch[w];
    for (size_t w = 0; w < block.warps.size(); ++w) {
      for (size_t v = 0; v < block.clocks(); ++v) {
        if (v != w) barrier.clock[v] = std::max(barrier.clock[v], block.known[w][v]);
      }
    }
    CompleteBarrier(block, barrier);
  }
  if (self.warp->runnable != 0 && barrier.arrived != 0) {
    RunNextOf(*self.warp);
  } else {
    SwitchToScheduler();
  }
}

// Everyone who waits knows what everyone who arrived did, and may run.
void Machine::CompleteBarrier(Block& block, Barrier& barrier) {
  for (size_t w = 0; w < block.warps.size(); ++w) {
    if (barrier.waiting[w] == 0) continue;
    Warp& warp = block.warps[w];
    for (size_t v = 0; v < block.clocks(); ++v) {
      block.known[w][v] = std::max(block.known[w][v], barrier.clock[v]);
    }
    warp.runnable |= barrier.waiting[w];
    warp.order = Random();
  }
  barrier = Barrier();
}

void Machine::ArriveAtNamedBarrier(Warp& warp, int index, int threads, bool waits, Where where) {
  if (index < 1 || index >= kBarriers) Fail(where, "barrier " + std::to_string(index) + ": expected 1..15");
  if (threads <= 0 || threads % kLanes != 0 || threads > thread_count_) {
    Fail(where,
         "a barrier of " + std::to_string(threads) + " threads in a block of " + std::to_string(thread_count_));
  }
  Block& block = *warp.block;
  Barrier& barrier = block.barriers[index];
  if (barrier.arrived == 0) {
    barrier.expected = threads;
    barrier.where = where;
  } else if (barrier.expected != threads) {
    Fail(where, "barrier " + std::to_string(index) + " of " + std::to_string(threads) + " threads, but of " +
                    std::to_string(barrier.expected) + " at " + Describe(barrier.where));
  }
  if ((barrier.warps >> warp.index & 1) != 0) {
    Fail(where, "the warp arrives at barrier " + std::to_string(index) + " again before the barrier is complete");
  }
  barrier.warps |= 1u << warp.index;
  AdvanceEpoch(block, warp.index, where);
  for (size_t v = 0; v < block.clocks(); ++v) {
    barrier.clock[v] = std::max(barrier.clock[v], block.known[warp.index][v]);
  }
  if (waits) {
    warp.runnable = 0;
    barrier.waiting[warp.index] = kAllLanes;
    for (int lane = 0; lane < kLanes; ++lane) {
      Thread& thread = block.threads[warp.index * kLanes + lane];
      thread.waits_at = where;
      thread.waits_for = "BarrierSync";
    }
  }
  barrier.arrived += kLanes;
  if (barrier.arrived == barrier.expected) CompleteBarrier(block, barrier);
}

void Machine::Poll(Where where) {
  if (++polls_ > kMaxPolls) Fail(where, "deadlock: threads poll memory that nobody changes");
  SwitchToScheduler();
}

void Machine::Sleep(Where where, const char* what) {
  current->waits_at = where;
  current->waits_for = what;
  Warp& warp = *current->warp;
  warp.runnable &= ~(1u << current->lane);
  if (warp.runnable != 0) {
    RunNextOf(warp);
  } else {
    SwitchToScheduler();
  }
}

bool Machine::DoAsyncWork() {
  std::vector<Block*> busy;
  for (const auto& block : resident_) {
    if (block != nullptr && HasAsyncWork(*block)) busy.push_back(block.get());
  }
  if (busy.empty()) return false;
  on_scheduler_ = true;
  try {
    emulator::DoAsyncWork(*busy[Random() % busy.size()]);
  } catch (...) {
    on_scheduler_ = false;
    throw;
  }
  on_scheduler_ = false;
  current = nullptr;
  NoteProgress();
  return true;
}

void Machine::FailEndless(Where where) {
  Fail(where, "endless loop: " + std::to_string(kMaxAccesses) + " memory accesses of this thread and nothing else");
}

void Machine::ReportDeadlock() {
  std::string message = "deadlock:";
  for (const auto& block : resident_) {
    if (block == nullptr) continue;
    // One entry per place where threads of a warp wait.
    for (const Warp& warp : block->warps) {
      uint32_t left = ~warp.exited;
      while (left != 0) {
        const Thread& first = block->threads[warp.index * kLanes + __builtin_ctz(left)];
        uint32_t same = 0;
        for (int lane = 0; lane < kLanes; ++lane) {
          const Thread& thread = block->threads[warp.index * kLanes + lane];
          const bool waits_there =
              thread.waits_for == first.waits_for && IsSamePlace(thread.waits_at, first.waits_at);
          if ((left >> lane & 1) != 0 && waits_there) same |= 1u << lane;
        }
        left &= ~same;
        message += " block " + std::to_string(block->index) + ", thread " + std::to_string(first.index) + " and " +
                   std::to_string(__builtin_popcount(same) - 1) + " more lanes of warp " +
                   std::to_string(warp.index) + " wait in " + first.waits_for + " at " + Describe(first.waits_at) +
                   ";";
      }
      if (warp.exited != 0) {
        message += " block " + std::to_string(block->index) + ", " + std::to_string(__builtin_popcount(warp.exited)) +
                   " lanes of warp " + std::to_string(warp.index) + " have returned;";
      }
    }
  }
  throw Error(message);
}

void Launch(int64_t blocks, int threads, int shared_bytes, uint64_t seed, const std::function<void()>& body) {
  const std::lock_guard<std::recursive_mutex> lock(Mutex());
  machine.Run(blocks, threads, shared_bytes, seed, body);
}

}  // namespace pfm::emulator
