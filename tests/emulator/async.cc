#include "async.h"

#include <algorithm>
#include <cstring>

#include "counts.h"
#include "global_memory.h"
#include "shared_memory.h"

namespace pfm::emulator {

namespace {

constexpr uint32_t kChunk = 16;
constexpr int64_t kMaxBarrierBytes = (1 << 20) - 1;
constexpr int kMaxBarrierCount = (1 << 20) - 1;
constexpr int kRegisterFile = 64 * 1024;

// Clock of what copies wrote.
int CopyClock(const Block& block) { return static_cast<int>(block.warps.size()); }

// Joins what one thread has done and knows to the clock. Accesses of the other lanes of its warp in the epoch that
// ends here move to the next one.
void ReleaseByThread(uint32_t* clock, Where where) {
  Block& block = *current->block;
  const int warp = current->warp->index;
  const uint32_t old = block.epoch[warp];
  if (old == kMaxEpoch) machine.Fail(where, "more barriers than the emulator can count");
  ++block.epoch[warp];
  const uint32_t self = static_cast<uint32_t>(current->index);
  const auto move = [&](uint32_t& stamp) {
    const uint32_t thread = stamp & kStampThread;
    const bool by_others = thread != self || (stamp & kStampSeveral) != 0;
    if (stamp >> kStampEpochShift == old && thread / kLanes == static_cast<uint32_t>(warp) && by_others) {
      stamp += 1u << kStampEpochShift;
    }
  };
  for (Access& access : block.written) move(access.stamp);
  for (Access& access : block.read[warp]) move(access.stamp);
  for (AsyncRead& read : block.async_read[warp]) {
    if ((read.stamp & kStampWaited) == 0) move(read.stamp);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    Thread& thread = block.threads[warp * kLanes + lane];
    if (&thread == current) continue;
    for (size_t i = thread.fences.size(); i-- > 0 && thread.fences[i] == old;) thread.fences[i] = old + 1;
  }
  for (size_t v = 0; v < block.clocks(); ++v) {
    clock[v] = std::max({clock[v], block.known[warp][v], current->acquired[v]});
  }
  clock[warp] = std::max(clock[warp], old + 1);
}

void Complete(MBarrier& barrier) {
  ++barrier.phase;
  barrier.pending = barrier.count;
  for (int v = 0; v < kMaxWarps; ++v) {
    barrier.completed[v] = std::max(barrier.completed[v], barrier.arriving[v]);
    barrier.arriving[v] = 0;
  }
  for (Thread* thread : barrier.waiting) thread->warp->runnable |= 1u << thread->lane;
  barrier.waiting.clear();
  machine.NoteProgress();
}

MBarrier& Find(SharedAddress address, Where where) {
  AsyncState& async = Async();
  const auto found = async.barriers.find(address);
  if (found == async.barriers.end()) {
    machine.Fail(where, "no mbarrier has been initialised at byte " +
                            std::to_string(static_cast<int64_t>(address) - kDynamicShared) + " of shared memory");
  }
  const uint32_t stamp = found->second.initialised.stamp;
  const bool own = (stamp & kStampThread) == static_cast<uint32_t>(current->index);
  if (!own && !IsOrderedBefore(*current->block, current->warp->index, stamp)) {
    machine.Fail(where, "the mbarrier is initialised by thread " + std::to_string(stamp & kStampThread) + " at " +
                            Describe(PlaceOf(found->second.initialised.site)) + " with no barrier in between");
  }
  return found->second;
}

void ExpectBytes(MBarrier& barrier, int64_t bytes, Where where) {
  barrier.bytes += bytes;
  if (barrier.bytes > kMaxBarrierBytes || barrier.bytes < -kMaxBarrierBytes) {
    machine.Fail(where,
                 "an mbarrier that expects " + std::to_string(barrier.bytes) + " bytes: the limit is 2^20 - 1");
  }
}

// Calls visit(pointer, bytes) for naturally aligned accesses that make up a run of bytes.
template <class Visit>
void ForAligned(uint8_t* at, uint32_t bytes, Visit visit) {
  while (bytes != 0) {
    uint32_t size = kChunk;
    while (size > bytes || reinterpret_cast<uintptr_t>(at) % size != 0) size /= 2;
    visit(at, size);
    at += size;
    bytes -= size;
  }
}

void Land(Block& block, const Load& load) {
  current = load.thread;
  for (const Piece& source : load.sources) {
    if (std::memcmp(source.global, load.data.data() + source.at, source.bytes) == 0) continue;
    machine.Fail(load.where, "the source of this asynchronous copy was changed while it was in flight");
  }
  const int clock = CopyClock(block);
  const Access access = {block.epoch[clock] << kStampEpochShift | static_cast<uint32_t>(clock * kLanes),
                         SiteOf(load.where)};
  for (size_t c = 0; c < load.chunks.size(); ++c) {
    const uint32_t offset = load.chunks[c] - kDynamicShared;
    std::memcpy(block.shared.data() + offset, load.data.data() + kChunk * c, kChunk);
    for (uint32_t w = offset / 4; w < (offset + kChunk) / 4; ++w) block.written[w] = access;
  }
  ++block.epoch[clock];
  const auto found = block.async->barriers.find(load.barrier);
  if (found == block.async->barriers.end()) machine.Fail(load.where, "the mbarrier of this copy is gone");
  MBarrier& barrier = found->second;
  barrier.arriving[clock] = block.epoch[clock];
  ExpectBytes(barrier, -static_cast<int64_t>(load.data.size()), load.where);
  if (barrier.pending == 0 && barrier.bytes == 0) Complete(barrier);
}

void Land(const Store& store) {
  for (const Piece& target : store.targets) {
    const uint8_t* data = store.data.data() + target.at;
    if (store.adds) {
      for (uint32_t i = 0; i < target.bytes; i += 4) {
        Global().Atomic(target.global + i, 4, store.where);
        float sum, value;
        std::memcpy(&sum, target.global + i, 4);
        std::memcpy(&value, data + i, 4);
        sum += value;
        std::memcpy(target.global + i, &sum, 4);
      }
      continue;
    }
    ForAligned(target.global, target.bytes,
               [&](uint8_t* at, uint32_t size) { Global().Write(at, size, store.where); });
    std::memcpy(target.global, data, target.bytes);
  }
}

}  // namespace

AsyncState& Async() {
  Block& block = *current->block;
  if (block.async == nullptr) {
    const size_t warps = block.warps.size();
    if (warps + 1 > kMaxWarps) machine.Fail({}, "asynchronous operations in a block of more than 31 warps");
    block.async = std::make_shared<AsyncState>();
    block.epoch[CopyClock(block)] = 1;
    const size_t chunks = (block.shared.size() + kChunk - 1) / kChunk;
    block.async_readers.assign(chunks, 0);
    block.async_read.assign(warps, std::vector<AsyncRead>(chunks, AsyncRead()));
    const int threads = static_cast<int>(block.threads.size());
    block.async->registers.assign(warps, std::min(kRegisterFile / threads / 8 * 8, 248));
  }
  return *block.async;
}

bool HasAsyncWork(const Block& block) { return block.async != nullptr && !block.async->loads.empty(); }

void DoAsyncWork(Block& block) {
  std::vector<Load>& loads = block.async->loads;
  const auto picked = loads.begin() + machine.Random() % loads.size();
  const Load load = std::move(*picked);
  loads.erase(picked);
  Land(block, load);
}

void CheckAsyncExit() {
  Block& block = *current->block;
  if (block.async == nullptr) return;
  if (block.live_threads == 1 && !block.async->loads.empty()) {
    machine.Fail(block.async->loads[0].where, "the block returned while this asynchronous copy was in flight");
  }
  if (HasWarpgroupWork(*current)) machine.Fail({}, "the thread returned before WarpgroupWait<0>");
  std::vector<Store>& stores = block.async->stores;
  for (size_t i = 0; i < stores.size();) {
    if (stores[i].thread != current) {
      ++i;
      continue;
    }
    if (!stores[i].has_read) {
      machine.Fail(stores[i].where, "the thread returned while this asynchronous store reads shared memory");
    }
    Land(stores[i]);
    stores.erase(stores.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void MbarrierInit(SharedAddress address, int count, Where where) {
  AsyncState& async = Async();
  Block& block = *current->block;
  if (count < 1 || count > kMaxBarrierCount) {
    machine.Fail(where, "an mbarrier of " + std::to_string(count) + " arrivals: expected 1..2^20 - 1");
  }
  WriteShared(address, 8, where);
  MBarrier barrier;
  barrier.count = barrier.pending = count;
  barrier.initialised = {StampOf(*current), SiteOf(where)};
  async.barriers[address] = barrier;
  const uint32_t word = (address - kDynamicShared) / 4;
  block.written[word].stamp = block.written[word + 1].stamp = kStampBarrier;
}

void FenceMbarrierInit() {
  for (auto& [address, barrier] : Async().barriers) {
    static_cast<void>(address);
    const uint32_t thread = barrier.initialised.stamp & kStampThread;
    if (thread == static_cast<uint32_t>(current->index)) barrier.fenced = true;
  }
}

void MbarrierArrive(SharedAddress address, int64_t expected_bytes, Where where) {
  MBarrier& barrier = Find(address, where);
  if (barrier.pending == 0) {
    machine.Fail(where, "more than the " + std::to_string(barrier.count) + " arrivals of a phase of this mbarrier");
  }
  ExpectBytes(barrier, expected_bytes, where);
  ReleaseByThread(barrier.arriving, where);
  --barrier.pending;
  if (barrier.pending == 0 && barrier.bytes == 0) Complete(barrier);
}

bool MbarrierTest(SharedAddress address, int parity, Where where) {
  const MBarrier& barrier = Find(address, where);
  if (parity != 0 && parity != 1) machine.Fail(where, "parity " + std::to_string(parity) + ": expected 0 or 1");
  if (static_cast<int>(barrier.phase & 1) == parity) return false;
  for (int v = 0; v < kMaxWarps; ++v) {
    current->acquired[v] = std::max(current->acquired[v], barrier.completed[v]);
  }
  return true;
}

void MbarrierWait(SharedAddress address, int parity, Where where) {
  while (!MbarrierTest(address, parity, where)) {
    Async().barriers[address].waiting.push_back(current);
    machine.Sleep(where, parity == 0 ? "MbarrierWait for parity 0" : "MbarrierWait for parity 1");
  }
}

void FenceProxyAsync() {
  Async();
  current->fences.push_back(current->block->epoch[current->warp->index]);
}

void StartLoad(std::vector<SharedAddress> chunks, std::vector<Piece> sources, SharedAddress address, Where where) {
  const MBarrier& barrier = Find(address, where);
  if (!barrier.fenced)
    machine.Fail(where, "no FenceMbarrierInit after the initialisation of the mbarrier of this copy");
  Load load = {current, address, std::move(chunks), {}, std::move(sources), where};
  load.data.assign(load.chunks.size() * kChunk, 0);
  for (const Piece& source : load.sources) {
    ForAligned(source.global, source.bytes, [&](uint8_t* at, uint32_t size) { Global().Read(at, size, where); });
    std::memcpy(load.data.data() + source.at, source.global, source.bytes);
  }
  for (const SharedAddress chunk : load.chunks) {
    std::memset(MarkAsyncWrite(chunk, where), 0xff, kChunk);
  }
  Async().loads.push_back(std::move(load));
  int64_t bytes = 0;
  for (const Load& started : Async().loads) bytes += static_cast<int64_t>(started.data.size());
  CountInFlight(bytes);
}

void StartStore(std::vector<SharedAddress> chunks, std::vector<Piece> targets, bool adds, Where where) {
  AsyncState& async = Async();
  Store store = {current, std::move(chunks), {}, std::move(targets), adds, async.store_groups[current->index], false,
                 where};
  for (const SharedAddress chunk : store.chunks) {
    const uint8_t* bytes = BeginAsyncRead(chunk, where);
    store.data.insert(store.data.end(), bytes, bytes + kChunk);
  }
  async.stores.push_back(std::move(store));
}

void BulkCommit() { ++Async().store_groups[current->index]; }

void WaitStores(int groups, bool only_reads) {
  AsyncState& async = Async();
  const int64_t before = async.store_groups[current->index] - groups;
  for (Store& store : async.stores) {
    if (store.thread != current || store.group >= before) continue;
    if (!store.has_read) {
      for (const SharedAddress chunk : store.chunks) EndAsyncRead(chunk, false, store.where);
    }
    store.has_read = true;
    if (!only_reads) Land(store);
  }
  if (only_reads) return;
  const auto landed = [&](const Store& store) { return store.thread == current && store.group < before; };
  async.stores.erase(std::remove_if(async.stores.begin(), async.stores.end(), landed), async.stores.end());
}

void SetRegisters(int registers, bool increases, Where where) {
  if (registers < 24 || registers > 256 || registers % 8 != 0) {
    machine.Fail(where, std::to_string(registers) + " registers: expected a multiple of 8 in 24..256");
  }
  const int warp = current->warp->index;
  const int before = Async().registers[warp];
  if (current->lane != 0) return;
  if (increases ? registers < before : registers > before) {
    machine.Fail(where, "from " + std::to_string(before) + " to " + std::to_string(registers) +
                            " registers: the wrong direction");
  }
  constexpr int kPatience = 20000;
  for (int tries = 0;; ++tries) {
    int others = 0;
    for (size_t w = 0; w < Async().registers.size(); ++w) {
      if (static_cast<int>(w) != warp) others += Async().registers[w] * kLanes;
    }
    if (others + registers * kLanes <= kRegisterFile) break;
    if (tries == kPatience) {
      machine.Fail(where, std::to_string(registers) +
                              " registers for each thread of the warp: the other warps hold " +
                              std::to_string(others) + " of " + std::to_string(kRegisterFile));
    }
    machine.Poll(where);
  }
  Async().registers[warp] = registers;
}

bool ElectOne(Where where) {
  AsyncOperands operands = {[](Warp&) {}};
  machine.Arrive(Collective::kAsync, 0, &operands, where);
  return current->lane == static_cast<int>((current->block->index * 5 + current->warp->index * 11 + 3) % kLanes);
}

void ExecuteAsync(Warp& warp) { static_cast<AsyncOperands*>(warp.operand[0])->execute(warp); }

}  // namespace pfm::emulator
