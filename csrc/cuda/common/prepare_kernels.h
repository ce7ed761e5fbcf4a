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

// Device form of AddLiveQueryTiles in csrc/core/order.h: calls visit(begin, end, count) for runs of query tiles, with
// count 1, or -1 for a run that a hole removes again.
template <class Visit>
PFM_DEVICE inline void VisitLiveTiles(const MaskTable& table, const int32_t* bounds, int32_t key_tile,
                                      Visit&& visit) {
  const auto bound = [&](int range, int which) {
    return ptx::LoadGlobal(bounds + (4 * range + which) * static_cast<int64_t>(table.key_tiles) + key_tile);
  };
  const int32_t begin = Min(bound(0, 0) / table.tile_q, table.query_tiles);
  const int32_t end = Min(CeilDiv(bound(0, 3), table.tile_q), table.query_tiles);
  if (begin >= end) return;
  visit(begin, end, 1);
  for (int range = 1; range <= table.holes; ++range) {
    const int32_t covered = Max(begin, CeilDiv(bound(range, 1), table.tile_q));
    const int32_t covered_end = Min(end, bound(range, 2) / table.tile_q);
    if (covered < covered_end) visit(covered, covered_end, -1);
  }
}

// Exclusive prefix sum over the threads of the block; *total is the sum over all. Needs kOrderWarps words of shared
// memory.
PFM_DEVICE inline int32_t PrefixOverBlock(int32_t value, ptx::SharedAddress words, int32_t* total) {
  const int lane = ptx::LaneIndex();
  const int warp = ptx::ThreadIndex() / 32;
  int32_t inclusive = value;
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const int32_t below = ptx::Shuffle(inclusive, Max(lane - lanes, 0));
    if (lane >= lanes) inclusive += below;
  }
  ptx::SyncThreads();  // all threads have read the words of the previous call
  if (lane == 31) ptx::StoreShared(words + 4 * warp, inclusive);
  ptx::SyncThreads();
  int32_t before = 0;
  *total = 0;
#pragma unroll 8
  for (int w = 0; w < kOrderWarps; ++w) {
    const int32_t sum = ptx::LoadShared<int32_t>(words + 4 * w);
    if (w < warp) before += sum;
    *total += sum;
  }
  return before + inclusive - value;
}

PFM_DEVICE inline int32_t MaxOverBlock(int32_t value, ptx::SharedAddress words) {
  value = ptx::ReduceMax(value);
  ptx::SyncThreads();
  if (ptx::LaneIndex() == 0) ptx::StoreShared(words + 4 * (ptx::ThreadIndex() / 32), value);
  ptx::SyncThreads();
  for (int w = 0; w < kOrderWarps; ++w) value = Max(value, ptx::LoadShared<int32_t>(words + 4 * w));
  return value;
}

constexpr int kOrderSharedBytes = 4 * (kOrderWarps + kOrderBuckets);

// Device form of LongestFirst in csrc/core/order.h. Tiles of one class keep their order, because deterministic sums
// are added in this order. largest: maximum work over the tiles of this thread, the only ones it can read before the
// first barrier.
PFM_DEVICE inline void OrderByWork(const int32_t* work, int32_t tiles, int32_t largest, ptx::SharedAddress words,
                                   int32_t* order) {
  const ptx::SharedAddress buckets = words + 4 * kOrderWarps;
  const int thread = ptx::ThreadIndex();
  largest = MaxOverBlock(largest, words);
  const auto below_largest = [&](int32_t tile) { return largest - ptx::LoadGlobal(work + tile); };
  const auto bucket_of = [&](int32_t tile) {
    return static_cast<int>(static_cast<int64_t>(below_largest(tile)) * kOrderBuckets / (largest + 1));
  };
  if (thread < kOrderBuckets) ptx::StoreShared(buckets + 4 * thread, 0);
  ptx::SyncThreads();
  for (int32_t tile = thread; tile < tiles; tile += kOrderThreads) {
    ptx::AtomicAddShared(buckets + 4 * bucket_of(tile), 1);
  }
  ptx::SyncThreads();
  // Bucket sizes become start offsets.
  int32_t total;
  const int32_t size = thread < kOrderBuckets ? ptx::LoadShared<int32_t>(buckets + 4 * thread) : 0;
  const int32_t start = PrefixOverBlock(size, words, &total);
  if (thread < kOrderBuckets) ptx::StoreShared(buckets + 4 * thread, start);
  ptx::SyncThreads();
  // Each warp scans all tiles for those of its buckets, 32 at a time, until it has found all of them.
  const int lane = ptx::LaneIndex();
  for (int bucket = thread / 32; bucket < kOrderBuckets; bucket += kOrderWarps) {
    const auto least = [&](int b) {
      return static_cast<int32_t>(CeilDiv<int64_t>(int64_t{b} * (largest + 1), kOrderBuckets));
    };
    const int32_t from = least(bucket), to = least(bucket + 1);
    int32_t next = ptx::LoadShared<int32_t>(buckets + 4 * bucket);
    const int32_t end = bucket + 1 < kOrderBuckets ? ptx::LoadShared<int32_t>(buckets + 4 * (bucket + 1)) : tiles;
    for (int32_t tile = lane; next < end; tile += 32) {
      const int32_t below = tile < tiles ? below_largest(tile) : -1;
      const uint32_t found = ptx::Ballot(from <= below && below < to);
      const int place = next + ptx::PopulationCount(found & ~(~0u << lane));
      if ((found >> lane & 1) != 0) ptx::StoreGlobal(order + place, tile);
      next += ptx::PopulationCount(found);
    }
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

// Counts live key tiles per query tile (PrefixCounts in csrc/core/order.h) and orders the query tiles. One block per
// mask.
PFM_KERNEL_BOUNDS(kOrderThreads, 1) void OrderQueryTiles(PFM_KERNEL_ARGUMENT MaskTable table) {
  const ptx::SharedAddress words = ptx::DynamicShared();
  const int thread = ptx::ThreadIndex();
  const int64_t mask = ptx::BlockIndex();
  const int32_t* bounds = table.bounds + mask * 4 * (1 + table.holes) * table.key_tiles;
  int32_t* work = table.work + mask * (table.query_tiles + 1);
  int32_t* order = table.order + mask * table.query_tiles;

  for (int32_t tile = thread; tile <= table.query_tiles; tile += kOrderThreads) ptx::StoreGlobal(work + tile, 0);
  ptx::SyncThreads();
  for (int32_t tile = thread; tile < table.key_tiles; tile += kOrderThreads) {
    VisitLiveTiles(table, bounds, tile, [&](int32_t begin, int32_t end, int32_t count) {
      ptx::AtomicAdd(work + begin, count);
      ptx::AtomicAdd(work + end, -count);
    });
  }
  ptx::SyncThreads();

  BoundGroups(table, bounds, table.groups + mask * 2 * table.key_groups());

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
  OrderByWork(work, table.query_tiles, largest, words, order);
}

// Counts live query tiles per key tile and orders the key tiles. One block per mask.
PFM_KERNEL_BOUNDS(kOrderThreads, 1) void OrderKeyTiles(PFM_KERNEL_ARGUMENT MaskTable table) {
  const int64_t mask = ptx::BlockIndex();
  const int32_t* bounds = table.bounds + mask * 4 * (1 + table.holes) * table.key_tiles;
  int32_t* work = table.key_work + mask * table.key_tiles;
  int32_t largest = 0;
  for (int32_t tile = ptx::ThreadIndex(); tile < table.key_tiles; tile += kOrderThreads) {
    int32_t live = 0;
    VisitLiveTiles(table, bounds, tile,
                   [&](int32_t begin, int32_t end, int32_t count) { live += count * (end - begin); });
    ptx::StoreGlobal(work + tile, live);
    largest = Max(largest, live);
  }
  OrderByWork(work, table.key_tiles, largest, ptx::DynamicShared(), table.key_order + mask * table.key_tiles);
}

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_PREPARE_KERNELS_H_
