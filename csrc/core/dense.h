// Conversion between dense bool masks and columns. A dense mask is uint8 [Sq, Sk], row-major; non-zero means visible.
#ifndef PFM_CORE_DENSE_H_
#define PFM_CORE_DENSE_H_

#include <cstdint>
#include <cstring>
#include <vector>

#include "columns.h"

namespace pfm {

constexpr int kMaxMaskedRuns = 2;

// Builds the column that masks exactly `runs`, which are ascending, disjoint, not adjacent, not empty and in [0, Sq).
// At most kMaxHoles of them may touch neither row 0 nor row Sq - 1.
inline Column ColumnFromMaskedRuns(const RowRange* runs, int count, int32_t rows) {
  const RowRange absent = {rows, 0};
  Column column = {{0, rows}, {absent, absent}};
  int holes = 0;
  for (int r = 0; r < count; ++r) {
    const bool at_top = runs[r].begin == 0;
    const bool at_bottom = runs[r].end == rows;
    if (at_top) column.visible.begin = runs[r].end;
    if (at_bottom) column.visible.end = runs[r].begin;
    if (!at_top && !at_bottom) column.hole[holes++] = runs[r];
  }
  if (column.visible.empty()) column.visible = absent;
  return column;
}

// Writes Sk columns and returns -1, or returns the index of the first column with more than two masked runs.
//
// Each row is compared with the row above, eight columns at a time: the cost is one pass over the mask plus one step
// per change. After a column with too many runs, only the columns before it are searched.
inline int64_t ColumnsFromDense(const uint8_t* dense, int64_t seqlen_q, int64_t seqlen_k, Column* columns) {
  struct Runs {
    RowRange run[kMaxMaskedRuns];
    int32_t started;
  };
  const int32_t rows = static_cast<int32_t>(seqlen_q);
  std::vector<Runs> runs(static_cast<size_t>(seqlen_k), Runs{{{rows, rows}, {rows, rows}}, 0});
  const std::vector<uint8_t> all_visible(static_cast<size_t>(seqlen_k), 1);
  const uint8_t* above = all_visible.data();
  int64_t limit = seqlen_k;
  for (int32_t row = 0; row < rows; ++row) {
    const uint8_t* current = dense + row * seqlen_k;
    const auto step = [&](int64_t col) {
      const bool visible = current[col] != 0;
      if (visible == (above[col] != 0)) return;
      Runs& r = runs[static_cast<size_t>(col)];
      if (visible) {
        r.run[r.started - 1].end = row;
      } else if (r.started == kMaxMaskedRuns) {
        limit = col;
      } else {
        r.run[r.started++].begin = row;
      }
    };
    int64_t col = 0;
    for (; col + 8 <= limit; col += 8) {
      uint64_t a, b;
      std::memcpy(&a, above + col, 8);
      std::memcpy(&b, current + col, 8);
      if (a == b) continue;
      for (int64_t c = col; c < col + 8 && c < limit; ++c) step(c);
    }
    for (; col < limit; ++col) step(col);
    above = current;
  }
  if (limit < seqlen_k) return limit;
  for (int64_t col = 0; col < seqlen_k; ++col) {
    const Runs& r = runs[static_cast<size_t>(col)];  // a run that reaches the last row keeps end = Sq
    columns[col] = ColumnFromMaskedRuns(r.run, r.started, rows);
  }
  return -1;
}

// Writes the dense mask. Each row copies the row above and flips the columns whose visibility changes.
inline void DenseFromColumns(const Column* columns, int64_t seqlen_q, int64_t seqlen_k, uint8_t* dense) {
  if (seqlen_q == 0 || seqlen_k == 0) return;
  const auto for_each_change = [&](auto&& visit) {
    const auto change = [&](int32_t row, int64_t col) {
      if (row < seqlen_q) visit(static_cast<size_t>(row), col);
    };
    for (int64_t col = 0; col < seqlen_k; ++col) {
      const Column& c = columns[col];
      if (c.visible.empty()) continue;
      change(c.visible.begin, col);
      change(c.visible.end, col);
      for (const RowRange& h : c.hole) {
        if (h.empty()) continue;
        change(h.begin, col);
        change(h.end, col);
      }
    }
  };
  // Counting sort of the changes by row.
  std::vector<int64_t> first(static_cast<size_t>(seqlen_q) + 1, 0);
  for_each_change([&](size_t row, int64_t) { ++first[row + 1]; });
  for (size_t row = 0; row < static_cast<size_t>(seqlen_q); ++row) first[row + 1] += first[row];
  std::vector<int64_t> next(first.begin(), first.end() - 1);
  std::vector<int64_t> changed(static_cast<size_t>(first.back()));
  for_each_change([&](size_t row, int64_t col) { changed[static_cast<size_t>(next[row]++)] = col; });

  const size_t width = static_cast<size_t>(seqlen_k);
  for (size_t row = 0; row < static_cast<size_t>(seqlen_q); ++row) {
    uint8_t* current = dense + row * width;
    if (row == 0) {
      std::memset(current, 0, width);
    } else {
      std::memcpy(current, current - width, width);
    }
    for (int64_t i = first[row]; i < first[row + 1]; ++i) current[changed[static_cast<size_t>(i)]] ^= 1;
  }
}

}  // namespace pfm

#endif  // PFM_CORE_DENSE_H_
