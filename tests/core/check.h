// Minimal test framework: counts expectations and prints the first failures.
#ifndef PFM_TESTS_CORE_CHECK_H_
#define PFM_TESTS_CORE_CHECK_H_

#include <cstdio>

namespace pfm_test {

struct Checks {
  long long done = 0;
  long long failed = 0;

  // `describe()` prints the case, for the first failures only.
  template <class Describe>
  void Expect(bool ok, const char* what, Describe describe) {
    ++done;
    if (ok) return;
    if (++failed > 5) return;
    std::printf("FAILED %s: ", what);
    describe();
    std::printf("\n");
  }

  int Report(const char* name) const {
    std::printf("%s: %lld checks, %lld failed\n", name, done, failed);
    return failed == 0 && done > 0 ? 0 : 1;
  }
};

int TestColumns();
int TestTiles();
int TestDropout();
int TestOrder();

}  // namespace pfm_test

#endif  // PFM_TESTS_CORE_CHECK_H_
