#include "machine.h"

#include "async.h"
#include "global_memory.h"

namespace pfm::emulator {

Machine machine;
Thread* current = nullptr;

namespace {

constexpr int64_t kMaxPolls = 500000;  // without other progress
constexpr uint32_t kPreemption = 16;   // one in so many collectives lets another warp run
constexpr uint32_t kAsyncDelay = 8;    // one in so many switches lets asynchronous work be done
constexpr size_t kDispatchWindow = 8;  // of so many blocks any may start next: CUDA promises no order

}  // namespace

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
  dispatch_.clear();
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
      if (resident_[slot] == nullptr && HasBlockToStart()) StartBlock(static_cast<int>(slot));
      if (resident_[slot] == nullptr) continue;
      any_block = true;
      for (Warp& warp : resident_[slot]->warps) {
        if (warp.runnable != 0) ready.push_back(&warp);
      }
    }
    if (!any_block) break;
    // Asynchronous work completes at random times, at the latest when all threads wait.
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

bool Machine::HasBlockToStart() {
  while (dispatch_.size() < kDispatchWindow && next_block_ < block_count_) dispatch_.push_back(next_block_++);
  return !dispatch_.empty();
}

void Machine::StartBlock(int slot) {
  auto block = std::make_unique<Block>();
  std::swap(dispatch_[Random() % dispatch_.size()], dispatch_.back());
  block->index = dispatch_.back();
  dispatch_.pop_back();
  block->live_threads = thread_count_;
  block->threads.resize(thread_count_);
  block->warps.resize(thread_count_ / kLanes);
  const size_t words = (static_cast<size_t>(shared_bytes_) + 3) / 4;
  block->shared.assign(words * 4, 0xff);
  block->written.assign(words, Access());
  block->readers.assign(words, 0);
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

// Runs the lanes of a warp one after the other, from a random lane on, in ascending or descending order.
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

}  // namespace pfm::emulator
