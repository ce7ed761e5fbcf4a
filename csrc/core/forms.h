// Encoding of columns as startend_row_indices, in one of its four forms (n, causal).
#ifndef PFM_CORE_FORMS_H_
#define PFM_CORE_FORMS_H_

#include <algorithm>
#include <array>
#include <cstdint>

#include "columns.h"
#include "dense.h"

namespace pfm {

struct Form {
  int32_t bounds;  // n
  bool causal;
};

// Forms in order of preference: the fewest values first; of the two with n = 2, the form that needs no hole.
constexpr std::array<Form, 4> kForms = {{{1, true}, {2, false}, {2, true}, {4, false}}};

// Up to 2 + kMaxHoles masked runs of one column, ascending, disjoint and not adjacent.
struct MaskedRuns {
  RowRange run[2 + kMaxHoles];
  int count = 0;

  void Add(RowRange range) {
    if (!range.empty()) run[count++] = range;
  }
};

inline MaskedRuns MaskedRunsOf(const Column& column, int32_t rows) {
  MaskedRuns runs;
  if (column.visible.empty()) {
    runs.Add({0, rows});
    return runs;
  }
  runs.Add({0, column.visible.begin});
  for (const RowRange& h : column.hole) runs.Add(h);
  runs.Add({column.visible.end, rows});
  return runs;
}

// Writes the form.bounds values of one key and returns true, or returns false if the form cannot encode the column.
// `first_row` is the first row that sees the key under causal.
inline bool EncodeColumn(const Column& column, Form form, int32_t rows, int32_t first_row, int32_t* values) {
  MaskedRuns runs = MaskedRunsOf(column, rows);
  if (form.causal) {  // causal masks the rows before first_row; the values encode the rest
    MaskedRuns rest;
    if (first_row > 0 && (runs.count == 0 || runs.run[0].begin > 0 || runs.run[0].end < first_row)) return false;
    for (int r = 0; r < runs.count; ++r) rest.Add({std::max(runs.run[r].begin, first_row), runs.run[r].end});
    if (rest.count > 1) return false;
    const RowRange lower = rest.count == 1 ? rest.run[0] : RowRange{rows, rows};
    if (form.bounds == 1 && lower.end != rows) return false;
    values[0] = lower.begin;
    if (form.bounds == 2) values[1] = lower.end;
    return true;
  }
  if (runs.count > kMaxMaskedRuns) return false;
  RowRange lower = {rows, rows};
  RowRange upper = {0, 0};
  for (int r = 0; r < runs.count; ++r) {
    const bool is_upper = r + 1 < runs.count || (runs.count == 1 && runs.run[r].begin == 0);
    (is_upper ? upper : lower) = runs.run[r];
  }
  if (form.bounds == 2) {
    if (lower.end != rows || upper.begin != 0) return false;
    values[0] = lower.begin;
    values[1] = upper.end;
    return true;
  }
  values[0] = lower.begin;
  values[1] = lower.end;
  values[2] = upper.begin;
  values[3] = upper.end;
  return true;
}

// Computes the column that is visible where both are. Returns false if more than two runs of rows are masked.
inline bool Intersect(const Column& a, const Column& b, int32_t rows, Column* out) {
  const MaskedRuns of_a = MaskedRunsOf(a, rows);
  const MaskedRuns of_b = MaskedRunsOf(b, rows);
  std::array<RowRange, 2 * (2 + kMaxHoles)> all;
  const size_t total = static_cast<size_t>(of_a.count + of_b.count);
  std::merge(of_a.run, of_a.run + of_a.count, of_b.run, of_b.run + of_b.count, all.begin(),
             [](RowRange x, RowRange y) { return x.begin < y.begin; });
  size_t count = 0;
  for (size_t i = 0; i < total; ++i) {
    if (count > 0 && all[i].begin <= all[count - 1].end) {
      all[count - 1].end = std::max(all[count - 1].end, all[i].end);
    } else {
      all[count++] = all[i];
    }
  }
  if (count > static_cast<size_t>(kMaxMaskedRuns)) return false;
  *out = ColumnFromMaskedRuns(all.data(), static_cast<int>(count), rows);
  return true;
}

}  // namespace pfm

#endif  // PFM_CORE_FORMS_H_
