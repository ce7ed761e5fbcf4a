// Single-precision FMA rate of one core: twelve independent chains of 8-lane FMAs, more than latency x units.
#include <immintrin.h>

#include <chrono>
#include <cstdio>

int main() {
  constexpr int kChains = 12, kLanes = 8;
  constexpr long kRounds = 40000000;
  __m256 chain[kChains];
  for (__m256& c : chain) c = _mm256_set1_ps(1.0f);
  const __m256 factor = _mm256_set1_ps(0.999f);
  const auto start = std::chrono::steady_clock::now();
  for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) chain[i] = _mm256_fmadd_ps(chain[i], factor, factor);
    asm volatile("" : : "x"(chain[0]));
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  float sum = 0;
  for (const __m256& c : chain) sum += c[0];
  std::printf("%.3f %g\n", 2.0 * kChains * kLanes * kRounds / seconds / 1e9, sum);
}
