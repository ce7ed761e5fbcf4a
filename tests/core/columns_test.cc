// NormalForm against the rules of flashmask.h, for every mask of every key at small sizes.
#include "core/columns.h"

#include <cstdint>
#include <cstdio>
#include <random>

#include "check.h"

namespace pfm_test {
namespace {

using pfm::Column;
using pfm::MaskRules;
using pfm::RowRange;

bool Masked(const MaskRules& rules, const int32_t* v, int64_t row) {
  const auto within = [&](int64_t start, int64_t end) {
    const int64_t rows = rules.seqlen_q;
    start = start < 0 ? 0 : start > rows ? rows : start;
    end = end < 0 ? 0 : end > rows ? rows : end;
    return row >= start && row < end;
  };
  if (rules.bounds == 1) return within(v[0], rules.seqlen_q);
  if (rules.bounds == 2 && rules.causal) return within(v[0], v[1]);
  if (rules.bounds == 2) return within(v[0], rules.seqlen_q) || within(0, v[1]);
  if (rules.bounds == 4) return within(v[0], v[1]) || within(v[2], v[3]);
  return false;
}

bool SeesByTheRules(const MaskRules& rules, const int32_t* values, int64_t row, int64_t key) {
  const int64_t diagonal = row + rules.causal_offset;
  if (rules.causal && key > diagonal) return false;
  if (rules.window_left >= 0 && key < diagonal - rules.window_left) return false;
  if (rules.window_right >= 0 && key > diagonal + rules.window_right) return false;
  return !Masked(rules, values, row);
}

bool IsAbsent(RowRange range, int64_t rows) { return range.begin == rows && range.end == 0; }

void CheckColumn(Checks* checks, const MaskRules& rules, const int32_t* values, int64_t key) {
  const Column column = pfm::NormalForm(rules, key, values);
  const int64_t rows = rules.seqlen_q;
  const auto describe = [&] {
    std::printf("Sq=%lld offset=%lld window=%lld,%lld causal=%d n=%d key=%lld values=", static_cast<long long>(rows),
                static_cast<long long>(rules.causal_offset), static_cast<long long>(rules.window_left),
                static_cast<long long>(rules.window_right), rules.causal, rules.bounds, static_cast<long long>(key));
    for (int c = 0; c < rules.bounds; ++c) std::printf("%d ", values[c]);
    std::printf("-> [%d,%d) holes [%d,%d) [%d,%d)", column.visible.begin, column.visible.end, column.hole[0].begin,
                column.hole[0].end, column.hole[1].begin, column.hole[1].end);
  };

  int64_t seen = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const bool expected = SeesByTheRules(rules, values, row, key);
    checks->Expect(column.Sees(static_cast<int32_t>(row)) == expected, "Sees", describe);
    seen += expected;
  }
  const bool absent[2] = {IsAbsent(column.hole[0], rows), IsAbsent(column.hole[1], rows)};
  if (seen == 0) {
    checks->Expect(IsAbsent(column.visible, rows) && absent[0] && absent[1], "unseen column is {Sq, 0}", describe);
  } else {
    checks->Expect(column.visible.begin >= 0 && column.visible.end <= rows, "visible lies in [0, Sq]", describe);
    checks->Expect(absent[1] || !absent[0], "holes are filled from the first slot", describe);
    int32_t previous_end = column.visible.begin;
    int count = 0;
    for (int h = 0; h < pfm::kMaxHoles; ++h) {
      if (absent[h]) continue;
      ++count;
      const RowRange hole = column.hole[h];
      checks->Expect(!hole.empty(), "a hole is absent or not empty", describe);
      checks->Expect(hole.begin > previous_end, "holes are inside, ascending, disjoint, not adjacent", describe);
      checks->Expect(hole.end < column.visible.end, "holes end inside", describe);
      previous_end = hole.end;
    }
    checks->Expect(count <= rules.holes(), "rules.holes() bounds the holes", describe);
  }
  for (int32_t r0 = 0; r0 <= rows; ++r0) {
    int64_t count = 0;
    for (int32_t r1 = r0; r1 <= rows; ++r1) {
      checks->Expect(column.CountVisible(r0, r1) == count, "CountVisible", describe);
      if (r1 < rows) count += SeesByTheRules(rules, values, r1, key);
    }
  }
}

// Calls visit(values) for every choice of `bounds` values in [low, high].
template <class Visit>
void ForAllValues(int bounds, int32_t low, int32_t high, Visit visit) {
  int32_t values[4] = {low, low, low, low};
  for (;;) {
    visit(values);
    int c = 0;
    while (c < bounds && values[c] == high) values[c++] = low;
    if (c >= bounds) return;
    ++values[c];
  }
}

struct Form {
  int bounds;
  bool causal;
};
constexpr Form kForms[] = {{0, false}, {0, true}, {1, true}, {2, true}, {2, false}, {4, false}};
constexpr int64_t kWindows[] = {-1, 0, 1, 3};

void CheckExhaustively(Checks* checks) {
  for (const Form form : kForms) {
    // Five rows are enough for two intervals to overlap in every possible way.
    const int64_t most_rows = form.bounds == 4 ? 5 : 6;
    for (int64_t rows = 0; rows <= most_rows; ++rows) {
      for (int64_t offset = -rows - 2; offset <= 2; ++offset) {
        for (const int64_t left : kWindows) {
          for (const int64_t right : kWindows) {
            const MaskRules rules = {rows, 1, offset, left, right, form.bounds, form.causal};
            ForAllValues(form.bounds, -1, static_cast<int32_t>(rows) + 1,
                         [&](const int32_t* values) { CheckColumn(checks, rules, values, 0); });
          }
        }
      }
    }
  }
}

// Only key - causal_offset matters; larger numbers and the limits of int32 are drawn at random.
void CheckRandomly(Checks* checks) {
  std::mt19937_64 random(20240613);
  const auto pick = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
  };
  constexpr int32_t kExtreme[] = {INT32_MIN, INT32_MIN + 1, -1, 0, INT32_MAX - 1, INT32_MAX};
  for (int round = 0; round < 60000; ++round) {
    const Form form = kForms[pick(0, 5)];
    const int64_t rows = pick(0, 40);
    const int64_t keys = pick(1, 60);
    const int64_t window[2] = {pick(-1, 50), pick(-1, 50)};
    constexpr int64_t kFar = (int64_t{1} << 27) - 1;
    const int64_t offset = pick(0, 9) == 0 ? (pick(0, 1) ? kFar : -kFar) : pick(-50, 50);
    const MaskRules rules = {rows,
                             keys,
                             offset,
                             pick(0, 2)   ? -1
                             : pick(0, 9) ? window[0]
                                          : kFar,
                             pick(0, 2)   ? -1
                             : pick(0, 9) ? window[1]
                                          : kFar,
                             form.bounds,
                             form.causal};
    int32_t values[4];
    for (int32_t& v : values) v = pick(0, 9) ? static_cast<int32_t>(pick(-3, rows + 3)) : kExtreme[pick(0, 5)];
    CheckColumn(checks, rules, values, pick(0, keys - 1));
  }
}

// Every slot is needed by some mask.
void CheckHolesAreNeeded(Checks* checks) {
  for (const Form form : kForms) {
    const MaskRules rules = {7, 1, -3, -1, -1, form.bounds, form.causal};
    int most = 0;
    ForAllValues(form.bounds, 0, 7, [&](const int32_t* values) {
      for (int64_t key = -3; key <= 3; ++key) {
        const Column column = pfm::NormalForm(rules, key, values);
        int count = 0;
        for (const RowRange& hole : column.hole) count += !hole.empty();
        most = pfm::Max(most, count);
      }
    });
    checks->Expect(most == rules.holes(), "some mask needs every hole slot",
                   [&] { std::printf("n=%d causal=%d: %d of %d", form.bounds, form.causal, most, rules.holes()); });
  }
}

}  // namespace

int TestColumns() {
  Checks checks;
  CheckExhaustively(&checks);
  CheckRandomly(&checks);
  CheckHolesAreNeeded(&checks);
  return checks.Report("columns");
}

}  // namespace pfm_test
