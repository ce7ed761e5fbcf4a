// Four float lanes in the compiler's vector extension, for any target (SSE2 and NEON included).
#ifndef PFM_CPU_SIMD_PORTABLE_H_
#define PFM_CPU_SIMD_PORTABLE_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "../core/float16.h"
#include "exp.h"

namespace pfm::cpu {

struct Portable {
  static constexpr int kLanes = 4;
  static constexpr int kSums = 4;  // of row_products.h
  static constexpr int kPanels = 1;
  static constexpr int kRows = 2;  // 2 x 16 micro tile: 8 accumulators, 4 vectors, 2 broadcasts

  typedef float Float __attribute__((vector_size(16)));
  typedef int32_t Mask __attribute__((vector_size(16)));

  static Float Load(const float* p) {
    Float v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  static void Store(float* p, Float v) { std::memcpy(p, &v, sizeof(v)); }
  static Float Set(float v) { return Float{v, v, v, v}; }
  static Float Add(Float a, Float b) { return a + b; }
  static Float Sub(Float a, Float b) { return a - b; }
  static Float Mul(Float a, Float b) { return a * b; }
  static Float Fma(Float a, Float b, Float c) { return a * b + c; }
  static Float MulSub(Float a, Float b, Float c) { return a * b - c; }
  static Float Max(Float a, Float b) { return a > b ? a : b; }

  static Float Round(Float v) {
    // Adding and subtracting 1.5 * 2^23 rounds to nearest even for |v| < 2^22.
    const Float magic = Set(12582912.0f);
    return (v + magic) - magic;
  }
  static Float TimesPowerOfTwo(Float v, Float n) {
    Mask biased;
    for (int lane = 0; lane < kLanes; ++lane)
      biased[lane] = n[lane] == n[lane] ? static_cast<int32_t>(n[lane]) + 127 : 0;
    const Mask bits = biased << 23;
    Float power;
    std::memcpy(&power, &bits, sizeof(power));
    return v * power;
  }

  static Float Exp(Float x) { return ExpByPolynomial<Portable>(x); }

  static float ReduceMax(Float v) {
    const float a = v[0] > v[2] ? v[0] : v[2];
    const float b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
  }
  static float ReduceAdd(Float v) { return (v[0] + v[2]) + (v[1] + v[3]); }

  template <int kRun>
  static void StoreSums(float* to, int64_t stride, const Float* v) {
    for (int i = 0; i < kSums; ++i) to[i / kRun * stride + i % kRun] = ReduceAdd(v[i]);
  }

  static Mask InRange(const int32_t* begin, const int32_t* end, int32_t row) {
    Mask b, e;
    std::memcpy(&b, begin, sizeof(b));
    std::memcpy(&e, end, sizeof(e));
    const Mask r = {row, row, row, row};
    return (b <= r) & (r < e);
  }
  static Mask AndNot(Mask not_this, Mask this_one) { return ~not_this & this_one; }
  static Mask Equal(Float a, Float b) { return a == b; }
  static Float Select(Mask m, Float yes, Float no) { return m ? yes : no; }

  static float Bfloat16ToFloat(uint16_t h) {
    const uint32_t bits = static_cast<uint32_t>(h) << 16;
    float v;
    std::memcpy(&v, &bits, sizeof(v));
    return v;
  }
  static uint16_t FloatToBfloat16(float v) {
    uint32_t bits;
    std::memcpy(&bits, &v, sizeof(bits));
    if (v != v) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }

  static Float LoadBfloat16(const uint16_t* p) {
    return Float{Bfloat16ToFloat(p[0]), Bfloat16ToFloat(p[1]), Bfloat16ToFloat(p[2]), Bfloat16ToFloat(p[3])};
  }
  static void StoreBfloat16(uint16_t* p, Float v) {
    for (int lane = 0; lane < kLanes; ++lane) p[lane] = FloatToBfloat16(v[lane]);
  }
  static Float LoadFloat16(const uint16_t* p) {
    return Float{Float16ToFloat(p[0]), Float16ToFloat(p[1]), Float16ToFloat(p[2]), Float16ToFloat(p[3])};
  }
  static void StoreFloat16(uint16_t* p, Float v) {
    for (int lane = 0; lane < kLanes; ++lane) p[lane] = FloatToFloat16(v[lane]);
  }
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_SIMD_PORTABLE_H_
