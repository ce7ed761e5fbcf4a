// Probes of thread indices, memory, copies, barriers and the order between blocks.
#ifndef PFM_EMULATOR_CONFORMANCE_MEMORY_PROBES_H_
#define PFM_EMULATOR_CONFORMANCE_MEMORY_PROBES_H_

#include "core/host_device.h"
#include "device_array.h"
#include "probe.h"

namespace pfm::conformance {

struct Arrays {
  const uint32_t* in;
  uint32_t* out;
};

// ---- Thread and block indices

PFM_KERNEL_BOUNDS(96, 1) void Places(PFM_KERNEL_ARGUMENT Arrays arrays) {
  uint32_t* out = arrays.out + 5 * (ptx::BlockIndex() * 96 + ptx::ThreadIndex());
  ptx::StoreGlobal(out, static_cast<uint32_t>(ptx::ThreadIndex()));
  ptx::StoreGlobal(out + 1, static_cast<uint32_t>(ptx::LaneIndex()));
  ptx::StoreGlobal(out + 2, static_cast<uint32_t>(ptx::BlockIndex()));
  ptx::StoreGlobal(out + 3, ptx::DynamicShared() % 128);
  ptx::StoreGlobal(reinterpret_cast<float*>(out + 4), ptx::Infinity());
}

inline void ProbePlaces(Recorder& recorder) {
  DeviceArray<uint32_t> out("out", 5 * 96 * 5);
  Run("Places", Places, 5, 96, 0, {nullptr, out.data()});
  std::vector<uint32_t> expected;
  for (uint32_t block = 0; block < 5; ++block) {
    for (uint32_t thread = 0; thread < 96; ++thread) {
      expected.insert(expected.end(), {thread, thread & 31, block, 0, 0x7f800000});
    }
  }
  recorder.Exact("ThreadIndex...DynamicShared", out.Read(), expected);
}

// ---- Shared and global memory by size of access

struct Word1 {
  uint8_t byte;
};
struct Word2 {
  uint16_t half;
};
struct Word4 {
  uint32_t word;
};
struct alignas(8) Word8 {
  uint32_t word[2];
};

template <class T>
struct TypedArrays {
  const T* in;
  T* out;
};

constexpr int kItems = 128;
PFM_HOST_DEVICE int Partner(int thread) { return (thread * 45 + 7) % kItems; }

template <class T>
PFM_KERNEL_BOUNDS(kItems, 1)
void ThroughShared(PFM_KERNEL_ARGUMENT TypedArrays<T> arrays) {
  const int thread = ptx::ThreadIndex();
  const ptx::SharedAddress base = ptx::DynamicShared();
  ptx::StoreShared(base + thread * static_cast<int>(sizeof(T)), ptx::LoadGlobal(arrays.in + thread));
  ptx::SyncThreads();
  const T value = ptx::LoadShared<T>(base + Partner(thread) * static_cast<int>(sizeof(T)));
  ptx::StoreGlobal(arrays.out + thread, value);
}

template <class T>
PFM_KERNEL_BOUNDS(kItems, 1)
void ThroughGlobal(PFM_KERNEL_ARGUMENT TypedArrays<T> arrays) {
  ptx::StoreGlobal(arrays.out + ptx::ThreadIndex(), ptx::LoadGlobal(arrays.in + Partner(ptx::ThreadIndex())));
}

template <class T>
void ProbeMoves(Recorder& recorder, const char* name, void (*kernel)(TypedArrays<T>), int shared_bytes) {
  Random random(1 + sizeof(T));
  std::vector<uint32_t> words = random.Words(kItems * sizeof(T) / 4);
  std::vector<T> values(kItems);
  std::memcpy(values.data(), words.data(), kItems * sizeof(T));
  DeviceArray<T> in("in", values), out("out", kItems);
  Run(name, kernel, 1, kItems, shared_bytes, {in.data(), out.data()});
  std::vector<T> expected(kItems);
  for (int t = 0; t < kItems; ++t) expected[t] = values[Partner(t)];
  const std::vector<T> actual = out.Read();
  std::vector<uint32_t> actual_words(words.size()), expected_words(words.size());
  std::memcpy(actual_words.data(), actual.data(), 4 * words.size());
  std::memcpy(expected_words.data(), expected.data(), 4 * words.size());
  recorder.Exact(name, actual_words, expected_words);
}

inline void ProbeSharedMoves(Recorder& recorder) {
  ProbeMoves<Word4>(recorder, "LoadShared/StoreShared.4", ThroughShared<Word4>, 4 * kItems);
  ProbeMoves<Word8>(recorder, "LoadShared/StoreShared.8", ThroughShared<Word8>, 8 * kItems);
  ProbeMoves<ptx::Vector16>(recorder, "LoadShared/StoreShared.16", ThroughShared<ptx::Vector16>, 16 * kItems);
}

inline void ProbeGlobalMoves(Recorder& recorder) {
  ProbeMoves<Word1>(recorder, "LoadGlobal/StoreGlobal.1", ThroughGlobal<Word1>, 0);
  ProbeMoves<Word2>(recorder, "LoadGlobal/StoreGlobal.2", ThroughGlobal<Word2>, 0);
  ProbeMoves<Word4>(recorder, "LoadGlobal/StoreGlobal.4", ThroughGlobal<Word4>, 0);
  ProbeMoves<Word8>(recorder, "LoadGlobal/StoreGlobal.8", ThroughGlobal<Word8>, 0);
  ProbeMoves<ptx::Vector16>(recorder, "LoadGlobal/StoreGlobal.16", ThroughGlobal<ptx::Vector16>, 0);
}

// ---- Atomics: sums of integers, which do not depend on the order

struct AtomicArrays {
  int32_t* integers;  // total; three values that thread 0 of block 0 saw in the last element
  float* floats;      // totals of the quads, then of single floats; a value that thread 0 of block 0 saw in the last
};

PFM_KERNEL_BOUNDS(64, 1) void Atomics(PFM_KERNEL_ARGUMENT AtomicArrays arrays) {
  const int thread = ptx::ThreadIndex();
  const ptx::SharedAddress word = ptx::DynamicShared();
  if (thread == 0) ptx::StoreShared(word, -5);
  ptx::SyncThreads();
  ptx::AtomicAddShared(word, thread * 3 - 90);
  ptx::SyncThreads();
  if (thread == 0) {
    const int32_t total = ptx::AtomicAddShared(word, 1);
    ptx::AtomicAdd(arrays.integers, total);
  }
  ptx::AtomicAdd(arrays.integers, thread * 7 - 11);
  const float number = static_cast<float>(thread);
  ptx::AtomicAddQuad(arrays.floats, {number, 2.0f * number, -number, 1.0f});
  ptx::AtomicAdd(arrays.floats + 4 + thread % 3, ptx::HasVectorReductions() ? number : number);
  if (thread == 0 && ptx::BlockIndex() == 0) {
    ptx::StoreGlobal(arrays.integers + 1, ptx::AtomicAdd(arrays.integers + 4, 17));
    ptx::StoreGlobal(arrays.integers + 2, ptx::AtomicAdd(arrays.integers + 4, -40));
    ptx::StoreGlobal(arrays.integers + 3, ptx::LoadAcquire(arrays.integers + 4));
    ptx::StoreGlobal(arrays.floats + 7, ptx::AtomicAdd(arrays.floats + 8, 2.5f));
  }
}

inline void ProbeAtomics(Recorder& recorder) {
  constexpr int kBlocks = 4;
  DeviceArray<int32_t> integers("integers", std::vector<int32_t>(5, 100));
  DeviceArray<float> floats("floats", 9);
  Require("ClearMemory", ptx::ClearMemory(floats.data(), 9 * sizeof(float), nullptr));
  Run("Atomics", Atomics, kBlocks, 64, 4, {integers.data(), floats.data()});
  int32_t sum = 100, shared = -5;
  std::vector<float> totals(9, 0.0f);
  totals[8] = 2.5f;
  for (int thread = 0; thread < 64; ++thread) shared += thread * 3 - 90;
  for (int block = 0; block < kBlocks; ++block) {
    sum += shared;
    for (int thread = 0; thread < 64; ++thread) {
      sum += thread * 7 - 11;
      const float number = static_cast<float>(thread);
      const float added[] = {number, 2 * number, -number, 1};
      for (int i = 0; i < 4; ++i) totals[i] += added[i];
      totals[4 + thread % 3] += number;
    }
  }
  std::vector<uint32_t> actual;
  for (const int32_t value : integers.Read()) actual.push_back(static_cast<uint32_t>(value));
  const std::vector<int32_t> expected = {sum, 100, 117, 77, 77};
  recorder.Exact("AtomicAdd, AtomicAddShared", actual, std::vector<uint32_t>(expected.begin(), expected.end()));
  actual.clear();
  for (const float value : floats.Read()) actual.push_back(BitCast<uint32_t>(value));
  std::vector<uint32_t> expected_floats;
  for (const float total : totals) expected_floats.push_back(BitCast<uint32_t>(total));
  recorder.Exact("AtomicAddQuad, AtomicAdd of floats, ClearMemory", actual, expected_floats);
}

// ---- Order between blocks, which take tickets since they may start in any order: the block with ticket b reads what
// the block before it wrote, and adds to the same sums

struct ChainArrays {
  uint32_t* rows;  // [blocks + 1][threads], row 0 given
  float* sums;     // [5][threads], by other threads in every block
  int32_t *turn, *ticket;
};

// Addends whose float32 sum depends on the order of the blocks.
PFM_HOST_DEVICE float Addend(int block, int i) { return (block % 2 == 0 ? 1e8f : -1e8f) + 9.0f * (block + i); }

PFM_KERNEL_BOUNDS(64, 1) void Chain(PFM_KERNEL_ARGUMENT ChainArrays arrays) {
  const int thread = ptx::ThreadIndex();
  if (thread == 0) ptx::StoreShared(ptx::DynamicShared(), ptx::AtomicAdd(arrays.ticket, 1));
  ptx::SyncThreads();
  const int block = ptx::LoadShared<int32_t>(ptx::DynamicShared());
  if (thread == 0) {
    while (ptx::LoadAcquire(arrays.turn) != block) {
    }
  }
  ptx::SyncThreads();
  const uint32_t before = ptx::LoadGlobal(arrays.rows + block * 64 + (thread + 1) % 64);
  ptx::StoreGlobal(arrays.rows + (block + 1) * 64 + thread, before * 5 + static_cast<uint32_t>(block));
  ptx::AddQuad(arrays.sums + 4 * ((thread + 5 * block) % 64),
               {Addend(block, 0), Addend(block, 1), Addend(block, 2), Addend(block, 3)});
  ptx::Add(arrays.sums + 4 * 64 + (thread + 5 * block) % 64, Addend(block, 0));
  ptx::SyncThreads();
  if (thread == 0) ptx::StoreRelease(arrays.turn, block + 1);
}

inline void ProbeChain(Recorder& recorder) {
  constexpr int kBlocks = 6;
  Random random(11);
  std::vector<uint32_t> expected = random.Words(64);
  DeviceArray<uint32_t> rows("rows", [&] {
    std::vector<uint32_t> start = expected;
    start.resize((kBlocks + 1) * 64);
    return start;
  }());
  DeviceArray<int32_t> turn("turn", std::vector<int32_t>(1, 0)), ticket("ticket", std::vector<int32_t>(1, 0));
  DeviceArray<float> sums("sums", std::vector<float>(5 * 64, 0.1f));
  Run("Chain", Chain, kBlocks, 64, 4, {rows.data(), sums.data(), turn.data(), ticket.data()});
  for (uint32_t block = 0; block < kBlocks; ++block) {
    for (size_t thread = 0; thread < 64; ++thread) {
      expected.push_back(expected[block * 64 + (thread + 1) % 64] * 5 + block);
    }
  }
  recorder.Exact("LoadAcquire, StoreRelease", rows.Read(), expected);
  std::vector<uint32_t> actual_sums, expected_sums;
  for (const float sum : sums.Read()) actual_sums.push_back(BitCast<uint32_t>(sum));
  for (int at = 0; at < 5 * 64; ++at) {
    float sum = 0.1f;
    for (int block = 0; block < kBlocks; ++block) sum += Addend(block, at < 4 * 64 ? at % 4 : 0);
    expected_sums.push_back(BitCast<uint32_t>(sum));
  }
  recorder.Exact("AddQuad, Add", actual_sums, expected_sums);
}

// ---- Asynchronous copies: two groups, the second with gaps

PFM_KERNEL_BOUNDS(64, 1) void Copies(PFM_KERNEL_ARGUMENT Arrays arrays) {
  const int thread = ptx::ThreadIndex();
  const ptx::SharedAddress mine = ptx::DynamicShared() + 32 * thread;
  ptx::CopyAsync16(mine, arrays.in + 8 * thread, true);
  ptx::CommitCopies();
  ptx::CopyAsync16(mine + 16, arrays.in + 8 * thread + 4, thread % 3 != 0);
  ptx::CommitCopies();
  ptx::WaitCopies<1>();
  const ptx::Vector16 first = ptx::LoadShared<ptx::Vector16>(mine);
  ptx::WaitCopies<0>();
  ptx::SyncThreads();
  const ptx::Vector16 second = ptx::LoadShared<ptx::Vector16>(ptx::DynamicShared() + 32 * (63 - thread) + 16);
  ptx::StoreGlobal(reinterpret_cast<ptx::Vector16*>(arrays.out) + 2 * thread, first);
  ptx::StoreGlobal(reinterpret_cast<ptx::Vector16*>(arrays.out) + 2 * thread + 1, second);
}

inline void ProbeCopies(Recorder& recorder) {
  Random random(12);
  const std::vector<uint32_t> words = random.Words(64 * 8);
  DeviceArray<uint32_t> in("in", words), out("out", words.size());
  Run("Copies", Copies, 1, 64, 64 * 32, {in.data(), out.data()});
  std::vector<uint32_t> expected;
  for (int thread = 0; thread < 64; ++thread) {
    const int other = 63 - thread;
    for (int w = 0; w < 4; ++w) expected.push_back(words[8 * thread + w]);
    for (int w = 4; w < 8; ++w) expected.push_back(other % 3 != 0 ? words[8 * other + w] : 0);
  }
  recorder.Exact("CopyAsync16, CommitCopies, WaitCopies", out.Read(), expected);
}

// ---- Barriers of some warps: warp 0 feeds warp 1, warps 2 and 3 exchange, lanes of a warp exchange

PFM_KERNEL_BOUNDS(128, 1) void Barriers(PFM_KERNEL_ARGUMENT Arrays arrays) {
  const int thread = ptx::ThreadIndex();
  const int warp = thread / 32, lane = ptx::LaneIndex();
  const ptx::SharedAddress words = ptx::DynamicShared();
  const uint32_t value = ptx::LoadGlobal(arrays.in + thread);
  if (warp < 2) {
    if (warp == 0) {
      ptx::StoreShared(words + 4 * thread, value);
      ptx::NamedBarrierArrive(1, 64);
      ptx::StoreGlobal(arrays.out + thread, value);
    } else {
      ptx::NamedBarrierSync(1, 64);
      ptx::StoreGlobal(arrays.out + thread, ptx::LoadShared<uint32_t>(words + 4 * (31 - lane)) ^ value);
    }
  } else {
    ptx::StoreShared(words + 4 * thread, value);
    ptx::NamedBarrierSync(15, 64);
    const uint32_t other = ptx::LoadShared<uint32_t>(words + 4 * (thread ^ 32));
    ptx::StoreGlobal(arrays.out + thread, other);
  }
  ptx::SyncThreads();
  ptx::StoreShared(words + 4 * thread, value + 1);
  ptx::SyncWarp();
  ptx::StoreGlobal(arrays.out + 128 + thread, ptx::LoadShared<uint32_t>(words + 4 * (thread ^ 5)));
}

inline void ProbeBarriers(Recorder& recorder) {
  Random random(13);
  const std::vector<uint32_t> in_words = random.Words(128);
  DeviceArray<uint32_t> in("in", in_words), out("out", 256);
  Run("Barriers", Barriers, 1, 128, 128 * 4, {in.data(), out.data()});
  std::vector<uint32_t> expected;
  for (int t = 0; t < 32; ++t) expected.push_back(in_words[t]);
  for (int t = 32; t < 64; ++t) expected.push_back(in_words[63 - t] ^ in_words[t]);
  for (int t = 64; t < 128; ++t) expected.push_back(in_words[t ^ 32]);
  for (int t = 0; t < 128; ++t) expected.push_back(in_words[t ^ 5] + 1);
  recorder.Exact("SyncThreads, SyncWarp, NamedBarrierSync, NamedBarrierArrive", out.Read(), expected);
}

}  // namespace pfm::conformance

#endif  // PFM_EMULATOR_CONFORMANCE_MEMORY_PROBES_H_
