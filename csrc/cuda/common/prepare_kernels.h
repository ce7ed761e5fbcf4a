// Kernels of mask preparation (prepare.h).
#ifndef PFM_CUDA_COMMON_PREPARE_KERNELS_H_
#define PFM_CUDA_COMMON_PREPARE_KERNELS_H_

#include <cstdint>

#include "../../core/order.h"
#include "mask_table.h"

namespace pfm::cuda {

constexpr int kColumnWarps = 4;  // key tiles per block of PrepareColumns
constexpr int kOrderThreads = 1024;
constexpr int kOrderWarps = kOrderThreads / 32;

struct PrepareArguments {
  MaskRules rules;
  MaskTable table;
  const int32_t* startend;
  int64_t startend_stride_batch, startend_stride_head;
};

PFM_DEVICE inline Column ReadColumn(const PrepareArguments& arguments, int64_t mask, int64_t key) {
  const MaskRules& rules = arguments.rules;
  const int32_t rows = static_cast<int32_t>(rules.seqlen_q);
  if (key >= rules.seqlen_k) return {{rows, 0}, {{rows, 0}, {rows, 0}}};
  int32_t values[4] = {};
  if (rules.bounds != 0) {
    const int32_t* at = arguments.startend + mask / arguments.table.heads_mask * arguments.startend_stride_batch +
                        mask % arguments.table.heads_mask * arguments.startend_stride_head + key * rules.bounds;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      if (n < rules.bounds) values[n] = ptx::LoadGlobal(at + n);
    }
  }
  return NormalForm(rules, key, values);
}

PFM_DEVICE inline RowRangeBounds ReduceOverWarp(const RowRangeBounds& bounds) {
  return {ptx::ReduceMin(bounds.min_begin), ptx::ReduceMax(bounds.max_begin), ptx::ReduceMin(bounds.min_end),
          ptx::ReduceMax(bounds.max_end)};
}

// Writes the columns of all keys, and their bounds over the keys that exist. One warp per key tile.
PFM_KERNEL_BOUNDS(kColumnWarps * 32, 1) void PrepareColumns(PFM_KERNEL_ARGUMENT PrepareArguments arguments) {
  const MaskTable& table = arguments.table;
  const int lane = ptx::LaneIndex();
  const int64_t item = static_cast<int64_t>(ptx::BlockIndex()) * kColumnWarps + ptx::ThreadIndex() / 32;
  if (item >= table.masks * table.key_tiles) return;
  const int64_t mask = item / table.key_tiles;
  const int64_t key_tile = item % table.key_tiles;
  const int ranges = 1 + table.holes;

  TileBounds bounds = {NoBounds(), {NoBounds(), NoBounds()}};
  for (int c = lane; c < table.tile_k; c += 32) {
    const int64_t key = key_tile * table.tile_k + c;
    const Column column = ReadColumn(arguments, mask, key);
    int32_t* at = table.columns + mask * 2 * ranges * table.padded_keys + key;
    ptx::StoreGlobal(at, column.visible.begin);
    ptx::StoreGlobal(at + table.padded_keys, column.visible.end);
#pragma unroll
    for (int hole = 0; hole < kMaxHoles; ++hole) {
      if (hole >= table.holes) continue;
      at += 2 * table.padded_keys;
      ptx::StoreGlobal(at, column.hole[hole].begin);
      ptx::StoreGlobal(at + table.padded_keys, column.hole[hole].end);
    }
    if (key >= arguments.rules.seqlen_k) continue;
    Extend(&bounds.visible, column.visible);
#pragma unroll
    for (int hole = 0; hole < kMaxHoles; ++hole) Extend(&bounds.hole[hole], column.hole[hole]);
  }

  const auto store = [&](int range, RowRangeBounds extremes) {
    extremes = ReduceOverWarp(extremes);
    if (lane != 0) return;
    int32_t* at = table.bounds + (mask * ranges + range) * 4 * table.key_tiles + key_tile;
    ptx::StoreGlobal(at, extremes.min_begin);
    ptx::StoreGlobal(at + table.key_tiles, extremes.max_begin);
    ptx::StoreGlobal(at + 2 * table.key_tiles, extremes.min_end);
    ptx::StoreGlobal(at + 3 * table.key_tiles, extremes.max_end);
  };
  store(0, bounds.visible);
#pragma unroll
  for (int hole = 0; hole < kMaxHoles; ++hole) {
    if (hole < table.holes) store(1 + hole, bounds.hole[hole]);
  }
}

// Runs of query tiles [begin, end) that the bounds of a key tile do not rule out, and those that a hole removes
// again.
struct LiveRuns {
  int32_t begin[1 + kMaxHoles], end[1 + kMaxHoles];  // empty unless begin < end
};

// Device form of AddLiveQueryTiles in csrc/core/order.h.
PFM_DEVICE inline LiveRuns LiveRunsOf(const MaskTable& table, const int32_t* bounds, int32_t key_tile) {
  const auto bound = [&](int range, int which) {
    return ptx::LoadGlobal(bounds + (4 * range + which) * static_cast<int64_t>(table.key_tiles) + key_tile);
  };
  LiveRuns runs = {};
  const int32_t begin = Min(bound(0, 0) / table.tile_q, table.query_tiles);
  const int32_t end = Min(CeilDiv(bound(0, 3), table.tile_q), table.query_tiles);
  if (begin >= end) return runs;
  runs.begin[0] = begin;
  runs.end[0] = end;
#pragma unroll
  for (int range = 1; range <= kMaxHoles; ++range) {
    if (range > table.holes) continue;
    runs.begin[range] = Max(begin, CeilDiv(bound(range, 1), table.tile_q));
    runs.end[range] = Min(end, bound(range, 2) / table.tile_q);
  }
  return runs;
}

// Inclusive prefix sum over the lanes of the warp. Collective.
PFM_DEVICE inline int32_t PrefixOverWarp(int32_t value) {
  const int lane = ptx::LaneIndex();
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const int32_t below = ptx::Shuffle(value, Max(lane - lanes, 0));
    if (lane >= lanes) value += below;
  }
  return value;
}

// A word per warp, read by one lane each.
static_assert(kOrderWarps == 32, "as many warps as lanes");

// Exclusive prefix sum over the threads of the block; *total is the sum over all. Needs kOrderWarps words of shared
// memory.
PFM_DEVICE inline int32_t PrefixOverBlock(int32_t value, ptx::SharedAddress words, int32_t* total) {
  const int lane = ptx::LaneIndex();
  const int warp = ptx::ThreadIndex() / 32;
  const int32_t inclusive = PrefixOverWarp(value);
  ptx::SyncThreads();  // all threads have read the words of the previous call
  if (lane == 31) ptx::StoreShared(words + 4 * warp, inclusive);
  ptx::SyncThreads();
  const int32_t of_warps = PrefixOverWarp(ptx::LoadShared<int32_t>(words + 4 * lane));
  const int32_t before = ptx::Shuffle(of_warps, Max(warp - 1, 0));
  *total = ptx::Shuffle(of_warps, 31);
  return (warp == 0 ? 0 : before) + inclusive - value;
}

PFM_DEVICE inline int32_t MaxOverBlock(int32_t value, ptx::SharedAddress words) {
  value = ptx::ReduceMax(value);
  ptx::SyncThreads();
  if (ptx::LaneIndex() == 0) ptx::StoreShared(words + 4 * (ptx::ThreadIndex() / 32), value);
  ptx::SyncThreads();
  return ptx::ReduceMax(ptx::LoadShared<int32_t>(words + 4 * ptx::LaneIndex()));
}

constexpr int kOrderCounters = kOrderBuckets * kOrderWarps;
constexpr int kOrderSharedBytes = 4 * (kOrderWarps + kOrderCounters);
static_assert(kOrderCounters == 2 * kOrderThreads, "two counters per thread");
static_assert(kOrderBuckets == 1 << 6, "a bucket has six bits");

// Lanes of the warp whose bucket is that of this lane.
PFM_DEVICE inline uint32_t LanesOfBucket(int bucket) {
  uint32_t lanes = ~0u;
#pragma unroll
  for (int bit = 0; bit < 6; ++bit) {
    const uint32_t set = ptx::Ballot((bucket >> bit & 1) != 0);
    lanes &= (bucket >> bit & 1) != 0 ? set : ~set;
  }
  return lanes;
}

// Device form of LongestFirst in csrc/core/order.h. Tiles of one class keep their order, because deterministic sums
// are added in this order. largest: maximum work over the tiles of this thread, the only ones it can read before the
// first barrier. Each warp counts and then places a run of tiles, with a counter per bucket and warp.
PFM_DEVICE inline void OrderByWork(const int32_t* work, int32_t tiles, int32_t largest, ptx::SharedAddress words,
                                   int32_t* order) {
  const ptx::SharedAddress counters = words + 4 * kOrderWarps;  // [bucket][warp]
  const int thread = ptx::ThreadIndex(), lane = ptx::LaneIndex(), warp = thread / 32;
  largest = MaxOverBlock(largest, words);
  // Below 2^26 tiles of 32, so that 32 bits suffice.
  const auto bucket_of = [&](int32_t tile) {
    const auto below_largest = static_cast<uint32_t>(largest - ptx::LoadGlobal(work + tile));
    return static_cast<int>(below_largest * kOrderBuckets / static_cast<uint32_t>(largest + 1));
  };
  // In ascending order of bucket and warp, but rotated, so that buckets of a warp lie in different banks.
  const auto counter_of = [&](int bucket, int of_warp) {
    return counters + 4 * (bucket * kOrderWarps + (of_warp + bucket) % kOrderWarps);
  };
  const int32_t run = RoundUp(CeilDiv(tiles, kOrderWarps), 32);
  const int32_t first = warp * run, end = Min(first + run, tiles);
  const int own_bucket = thread / (kOrderWarps / 2), own_warp = thread % (kOrderWarps / 2) * 2;
  const ptx::SharedAddress own[] = {counter_of(own_bucket, own_warp), counter_of(own_bucket, own_warp + 1)};
  ptx::StoreShared(own[0], 0);
  ptx::StoreShared(own[1], 0);
  ptx::SyncThreads();
  for (int32_t tile = first + lane; tile < end; tile += 32) {
    ptx::AtomicAddShared(counter_of(bucket_of(tile), warp), 1);
  }
  ptx::SyncThreads();
  // Counts become the places of the first tiles.
  int32_t total;
  const int32_t count = ptx::LoadShared<int32_t>(own[0]), next = ptx::LoadShared<int32_t>(own[1]);
  const int32_t place = PrefixOverBlock(count + next, words, &total);
  ptx::StoreShared(own[0], place);
  ptx::StoreShared(own[1], place + count);
  ptx::SyncThreads();
  for (int32_t from = first; from < end; from += 32) {
    const int32_t tile = from + lane;
    const bool exists = tile < end;
    const int bucket = exists ? bucket_of(tile) : 0;
    const uint32_t same = LanesOfBucket(bucket) & ptx::Ballot(exists);
    const int before = ptx::PopulationCount(same & ~(~0u << lane));
    const ptx::SharedAddress counter = counter_of(bucket, warp);
    const int32_t start = ptx::LoadShared<int32_t>(counter);
    if (exists) ptx::StoreGlobal(order + start + before, tile);
    ptx::SyncWarp();  // all lanes have read the counter
    if (exists && before == 0) ptx::StoreShared(counter, start + ptx::PopulationCount(same));
    ptx::SyncWarp();  // the counters are those of the next 32 tiles
  }
}

// Bounds the rows that see a key of each group of key tiles. One warp per group.
PFM_DEVICE inline void BoundGroups(const MaskTable& table, const int32_t* bounds, int32_t* groups) {
  const int lane = ptx::LaneIndex();
  for (int32_t group = ptx::ThreadIndex() / 32; group < table.key_groups(); group += kOrderWarps) {
    const int32_t tile = Min(group * kGroupTiles + lane, table.key_tiles - 1);  // the last one repeats
    const int32_t first = ptx::LoadGlobal(bounds + tile);
    const int32_t end = ptx::LoadGlobal(bounds + 3 * int64_t{table.key_tiles} + tile);
    const RowRangeBounds rows = ReduceOverWarp({first, first, end, end});
    if (lane != 0) continue;
    ptx::StoreGlobal(groups + group, rows.min_begin);
    ptx::StoreGlobal(groups + table.key_groups() + group, rows.max_end);
  }
}

// Adds count, the same in all lanes, to `work` at index in lanes where it exists, as one addition if they name the
// same place: most do on full and causal masks.
PFM_DEVICE inline void AddOverWarp(int32_t* work, bool exists, int32_t index, int32_t count) {
  const uint32_t lanes = ptx::Ballot(exists);
  if (lanes == 0) return;
  const int leader = ptx::LowestBit(lanes);
  const int32_t common = ptx::Shuffle(index, leader);
  if (ptx::Ballot(exists && index != common) != 0) {
    if (exists) ptx::AtomicAdd(work + index, count);
  } else if (ptx::LaneIndex() == leader) {
    ptx::AtomicAdd(work + index, count * ptx::PopulationCount(lanes));
  }
}

// Counts live key tiles per query tile (PrefixCounts in csrc/core/order.h) and orders the query tiles if wanted.
PFM_DEVICE inline void OrderQueryTiles(const MaskTable& table, int64_t mask, ptx::SharedAddress words) {
  const int thread = ptx::ThreadIndex();
  const int32_t* bounds = table.bounds + mask * 4 * (1 + table.holes) * table.key_tiles;
  int32_t* work = table.work + mask * (table.query_tiles + 1);

  for (int32_t tile = thread; tile <= table.query_tiles; tile += kOrderThreads) ptx::StoreGlobal(work + tile, 0);
  ptx::SyncThreads();
  for (int32_t from = 0; from < table.key_tiles; from += kOrderThreads) {
    LiveRuns runs = {};
    if (from + thread < table.key_tiles) runs = LiveRunsOf(table, bounds, from + thread);
#pragma unroll
    for (int range = 0; range <= kMaxHoles; ++range) {
      if (range > table.holes) continue;
      const bool exists = runs.begin[range] < runs.end[range];
      const int32_t count = range == 0 ? 1 : -1;
      AddOverWarp(work, exists, runs.begin[range], count);
      AddOverWarp(work, exists, runs.end[range], -count);
    }
  }
  ptx::SyncThreads();

  if (table.groups != nullptr) BoundGroups(table, bounds, table.groups + mask * 2 * table.key_groups());

  int32_t running = 0;
  int32_t largest = 0;
  for (int32_t first = 0; first < table.query_tiles; first += kOrderThreads) {
    const int32_t tile = first + thread;
    const int32_t change = tile < table.query_tiles ? ptx::LoadGlobal(work + tile) : 0;
    int32_t total;
    const int32_t count = Max(0, running + PrefixOverBlock(change, words, &total) + change);
    running += total;
    if (tile < table.query_tiles) {
      ptx::StoreGlobal(work + tile, count);
      largest = Max(largest, count);
    }
  }
  if (table.order != nullptr) {
    OrderByWork(work, table.query_tiles, largest, words, table.order + mask * table.query_tiles);
  }
}

// Counts live query tiles per key tile and orders the key tiles.
PFM_DEVICE inline void OrderKeyTiles(const MaskTable& table, int64_t mask, ptx::SharedAddress words) {
  const int32_t* bounds = table.bounds + mask * 4 * (1 + table.holes) * table.key_tiles;
  int32_t* work = table.key_work + mask * table.key_tiles;
  int32_t largest = 0;
  for (int32_t tile = ptx::ThreadIndex(); tile < table.key_tiles; tile += kOrderThreads) {
    const LiveRuns runs = LiveRunsOf(table, bounds, tile);
    int32_t live = 0;
#pragma unroll
    for (int range = 0; range <= kMaxHoles; ++range) {
      const int32_t tiles = Max(0, runs.end[range] - runs.begin[range]);
      live += range == 0 ? tiles : -tiles;
    }
    ptx::StoreGlobal(work + tile, live);
    largest = Max(largest, live);
  }
  OrderByWork(work, table.key_tiles, largest, words, table.key_order + mask * table.key_tiles);
}

// One block per mask for its query tiles, and, if their order is wanted, one for its key tiles.
PFM_KERNEL_BOUNDS(kOrderThreads, 1) void OrderTiles(PFM_KERNEL_ARGUMENT MaskTable table) {
  const int32_t block = ptx::BlockIndex();
  if (block < table.masks) {
    OrderQueryTiles(table, block, ptx::DynamicShared());
  } else {
    OrderKeyTiles(table, block - table.masks, ptx::DynamicShared());
  }
}

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_PREPARE_KERNELS_H_
