// Single-precision FMA rate of one core: twelve independent chains of FMAs, more than latency x units, with the
// widest vectors of the processor.
#include <chrono>
#include <cstdio>

int main() {
#ifdef __AVX512F__
  constexpr int kLanes = 16;
#else
  constexpr int kLanes = 8;
#endif
  using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));
  constexpr int kChains = 12;
  constexpr long kRounds = 400000000;  // a second, in which the scheduler finds a core for every process
  Vector chain[kChains];
  for (Vector& c : chain) c = Vector{} + 1.0f;
  const Vector factor = Vector{} + 0.999f;
  const auto start = std::chrono::steady_clock::now();
  for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) chain[i] = chain[i] * factor + factor;
    asm volatile("" : : "v"(chain[0]));
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  float sum = 0;
  for (const Vector& c : chain) sum += c[0];
  std::printf("%.3f %g\n", 2.0 * kChains * kLanes * kRounds / seconds / 1e9, sum);
}
