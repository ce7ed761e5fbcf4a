// Longest-first order of query tiles by estimated work, in O(query tiles + key tiles) with a bucket sort.
#ifndef PFM_CORE_ORDER_H_
#define PFM_CORE_ORDER_H_

#include <cstdint>

#include "tiles.h"

namespace pfm {

constexpr int kOrderBuckets = 64;

// Adds to a difference array of query_tiles + 1 entries the query tiles that a key tile's bounds do not rule out.
PFM_HOST_DEVICE void AddLiveQueryTiles(const TileBounds& bounds, int32_t tile_q, int32_t query_tiles,
                                       int32_t* difference) {
  const int32_t begin = Min(bounds.visible.min_begin / tile_q, query_tiles);
  const int32_t end = Min(CeilDiv(bounds.visible.max_end, tile_q), query_tiles);
  if (begin >= end) return;
  difference[begin] += 1;
  difference[end] -= 1;
  for (const RowRangeBounds& hole : bounds.hole) {
    const int32_t covered = Max(begin, CeilDiv(hole.max_begin, tile_q));
    const int32_t covered_end = Min(end, hole.min_end / tile_q);
    if (covered >= covered_end) continue;
    difference[covered] -= 1;
    difference[covered_end] += 1;
  }
}

// Replaces the difference array by its prefix sums and returns the largest. The holes of a column ascend, so the
// holes that cover a whole key tile are disjoint. A count is therefore the number of key tiles that bounds do not
// rule out; if it is zero, no key tile has a visible pair.
PFM_HOST_DEVICE int32_t PrefixCounts(int32_t query_tiles, int32_t* difference) {
  int32_t running = 0;
  int32_t largest = 0;
  for (int32_t tile = 0; tile < query_tiles; ++tile) {
    running += difference[tile];
    difference[tile] = Max(0, running);
    largest = Max(largest, difference[tile]);
  }
  return largest;
}

// Writes the query tiles in descending order of their counts, quantised to kOrderBuckets buckets. The sort is stable.
PFM_HOST_DEVICE void LongestFirst(const int32_t* count, int32_t query_tiles, int32_t largest, int32_t* order) {
  int32_t start[kOrderBuckets] = {};
  const auto bucket = [=](int32_t tile) {
    return static_cast<int32_t>(static_cast<int64_t>(largest - count[tile]) * kOrderBuckets / (largest + 1));
  };
  for (int32_t tile = 0; tile < query_tiles; ++tile) ++start[bucket(tile)];
  int32_t next = 0;
  for (int32_t& s : start) {
    const int32_t size = s;
    s = next;
    next += size;
  }
  for (int32_t tile = 0; tile < query_tiles; ++tile) order[start[bucket(tile)]++] = tile;
}

}  // namespace pfm

#endif  // PFM_CORE_ORDER_H_
