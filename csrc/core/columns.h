// The normal form of a mask column: one visible range of query rows minus zero to two holes.
//
// It combines every rule that can hide a key: the intervals of startend_row_indices, the causal triangle and the
// window. Kernels never read n, causal or window_size.
#ifndef PFM_CORE_COLUMNS_H_
#define PFM_CORE_COLUMNS_H_

#include <cstdint>

#include "host_device.h"

namespace pfm {

constexpr int kMaxHoles = 2;

// Rows [begin, end). An absent hole is {Sq, 0}, the neutral element of min(begin) and max(end): it never touches a
// tile. Under max(begin) and min(end) it dominates: a key tile with an absent hole is never covered by that hole.
struct RowRange {
  int32_t begin;
  int32_t end;

  PFM_HOST_DEVICE bool empty() const { return begin >= end; }
};

// Key j is visible to the rows of `visible` that are in no hole. Holes lie strictly inside `visible`, in ascending
// order, disjoint and not adjacent. A column that no row sees is {Sq, 0} without holes.
struct Column {
  RowRange visible;
  RowRange hole[kMaxHoles];

  PFM_HOST_DEVICE bool Sees(int32_t row) const {
    if (row < visible.begin || row >= visible.end) return false;
    for (const RowRange& h : hole) {
      if (row >= h.begin && row < h.end) return false;
    }
    return true;
  }

  // Number of rows of [r0, r1) that see this key.
  PFM_HOST_DEVICE int64_t CountVisible(int32_t r0, int32_t r1) const {
    const int32_t begin = Max(r0, visible.begin);
    const int32_t end = Min(r1, visible.end);
    if (begin >= end) return 0;
    int64_t count = end - begin;
    for (const RowRange& h : hole) {
      const int32_t a = Max(begin, h.begin);
      const int32_t b = Min(end, h.end);
      if (a < b) count -= b - a;
    }
    return count;
  }
};

// Mask parameters that all columns of one call share.
struct MaskRules {
  int64_t seqlen_q;
  int64_t seqlen_k;
  int64_t causal_offset;
  int64_t window_left;   // -1: unbounded
  int64_t window_right;  // -1: unbounded; causal is window_right = 0
  int32_t bounds;        // n of startend_row_indices: 0, 1, 2 or 4
  bool causal;

  // Most holes that a column can have. Only an interval that touches neither end of the visible range is a hole.
  PFM_HOST_DEVICE int holes() const {
    if (bounds == 4) return 2;
    return bounds == 2 && causal ? 1 : 0;
  }
};

// Rows that see key j under causal and window alone.
PFM_HOST_DEVICE RowRange RowsInWindow(const MaskRules& rules, int64_t key) {
  const int64_t diagonal = key - rules.causal_offset;  // first row for which the key is not in the future
  const int64_t right = rules.causal ? 0 : rules.window_right;
  const int64_t right_of = rules.causal && rules.window_right >= 0 ? Min<int64_t>(right, rules.window_right) : right;
  const int64_t begin = right_of < 0 ? 0 : diagonal - right_of;
  const int64_t end = rules.window_left < 0 ? rules.seqlen_q : diagonal + rules.window_left + 1;
  return {static_cast<int32_t>(Max<int64_t>(0, Min(begin, rules.seqlen_q))),
          static_cast<int32_t>(Max<int64_t>(0, Min(end, rules.seqlen_q)))};
}

// Decodes the n values of one key into the masked intervals {lower, upper}, clipped to [0, Sq].
PFM_HOST_DEVICE void MaskedIntervals(const MaskRules& rules, const int32_t* values, RowRange (&out)[2]) {
  const int32_t rows = static_cast<int32_t>(rules.seqlen_q);
  out[0] = {rows, 0};
  out[1] = {rows, 0};
  if (rules.bounds == 0) return;
  const auto clip = [rows](int32_t v) { return Max(0, Min(v, rows)); };
  if (rules.bounds == 1) {
    out[0] = {clip(values[0]), rows};
  } else if (rules.bounds == 2 && rules.causal) {
    out[0] = {clip(values[0]), clip(values[1])};
  } else if (rules.bounds == 2) {
    out[0] = {clip(values[0]), rows};
    out[1] = {0, clip(values[1])};
  } else {
    out[0] = {clip(values[0]), clip(values[1])};
    out[1] = {clip(values[2]), clip(values[3])};
  }
}

// `values` points at the n values of this key (unused when rules.bounds is 0).
PFM_HOST_DEVICE Column NormalForm(const MaskRules& rules, int64_t key, const int32_t* values) {
  const RowRange absent = {static_cast<int32_t>(rules.seqlen_q), 0};
  RowRange masked[2];
  MaskedIntervals(rules, values, masked);
  if (!masked[0].empty() && !masked[1].empty()) {
    if (masked[1].begin < masked[0].begin) {
      const RowRange lower = masked[0];
      masked[0] = masked[1];
      masked[1] = lower;
    }
    if (masked[1].begin <= masked[0].end) {  // overlapping or adjacent: one interval
      masked[0].end = Max(masked[0].end, masked[1].end);
      masked[1] = absent;
    }
  }
  RowRange visible = RowsInWindow(rules, key);
  // The intervals ascend and are neither overlapping nor adjacent, so trimming one end of the range with one of them
  // cannot make the other touch that end.
  for (RowRange& m : masked) {
    if (m.empty()) continue;
    if (m.begin <= visible.begin) {
      visible.begin = Max(visible.begin, m.end);
      m = absent;
    } else if (m.end >= visible.end) {
      visible.end = Min(visible.end, m.begin);
      m = absent;
    }
  }
  if (visible.empty()) return {absent, {absent, absent}};
  if (masked[0].empty()) return {visible, {masked[1].empty() ? absent : masked[1], absent}};
  return {visible, {masked[0], masked[1].empty() ? absent : masked[1]}};
}

}  // namespace pfm

#endif  // PFM_CORE_COLUMNS_H_
