// Eight float lanes of AVX2 + FMA + F16C.
#ifndef PFM_CPU_SIMD_AVX2_H_
#define PFM_CPU_SIMD_AVX2_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace pfm::cpu {

struct Avx2 {
  static constexpr int kLanes = 8;
  static constexpr int kSums = 8;  // of row_products.h
  static constexpr int kPanels = 1;
  static constexpr int kRows = 6;  // 6 x 16 micro tile: 12 accumulators, 2 vectors, 1 broadcast of 16 registers

  using Float = __m256;
  using Mask = __m256;

  static Float Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, Float v) { _mm256_storeu_ps(p, v); }
  static Float Set(float v) { return _mm256_set1_ps(v); }
  static Float Add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float Sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float Mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float Fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float MulSub(Float a, Float b, Float c) { return _mm256_fmsub_ps(a, b, c); }
  // A NaN in b is returned.
  static Float Max(Float a, Float b) { return _mm256_max_ps(a, b); }

  // As ExpByPolynomial, with 2^(i/8) from a table and a minimax polynomial of 2^part on [-1/16, 1/16], exact at 0. An
  // x below the logarithm of the smallest normal number gives exactly 0.
  static Float Exp(Float x) {
    const Float log2e = Set(1.44269504f);
    const Float shift = Set(1572864.0f);  // 1.5 * 2^20: the last bit of a sum with it is 1/8
    const Float shifted = Fma(x, log2e, shift);
    const Float part = MulSub(x, log2e, Sub(shifted, shift));
    // Bits of 2^(i/8) minus i << 20: the shifted eighths below add i << 20 back.
    const Float powers = _mm256_castsi256_ps(_mm256_setr_epi32(0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7,
                                                               0x3f7504f3, 0x3f75672a, 0x3f7744fd, 0x3f7ac0c7));
    const __m256i eighths = _mm256_castps_si256(shifted);
    const __m256i fraction = _mm256_castps_si256(_mm256_permutevar8x32_ps(powers, eighths));
    const Float power = _mm256_castsi256_ps(_mm256_add_epi32(fraction, _mm256_slli_epi32(eighths, 20)));
    const Float slope = Fma(Fma(Set(5.5496223e-2f), part, Set(2.4025764e-1f)), part, Set(6.9314724e-1f));
    const Float counts = _mm256_cmp_ps(x, Set(-87.336f), _CMP_NLT_UQ);  // true for NaN, which is kept
    return _mm256_and_ps(Fma(Mul(slope, part), power, power), counts);
  }

  static float ReduceMax(Float v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
  }
  static float ReduceAdd(Float v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }

  // Stores the sums over lanes of eight vectors, kRun in a row.
  template <int kRun>
  static void StoreSums(float* to, int64_t stride, const Float* v) {
    float sums[8];
    for (int i = 0; i < 8; i += 4) {
      const Float halves = _mm256_hadd_ps(_mm256_hadd_ps(v[i], v[i + 1]), _mm256_hadd_ps(v[i + 2], v[i + 3]));
      _mm_storeu_ps(sums + i, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
    }
    for (int i = 0; i < 8; i += kRun, to += stride) std::memcpy(to, sums + i, sizeof(float) * kRun);
  }

  // begin[lane] <= row < end[lane]
  static Mask InRange(const int32_t* begin, const int32_t* end, int32_t row) {
    const __m256i r = _mm256_set1_epi32(row);
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(begin));
    const __m256i e = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(end));
    return _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_cmpgt_epi32(b, r), _mm256_cmpgt_epi32(e, r)));
  }
  static Mask AndNot(Mask not_this, Mask this_one) { return _mm256_andnot_ps(not_this, this_one); }
  static Mask Equal(Float a, Float b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
  static Float Select(Mask m, Float yes, Float no) { return _mm256_blendv_ps(no, yes, m); }

  static Float LoadBfloat16(const uint16_t* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  static void StoreBfloat16(uint16_t* p, Float v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
    const __m256i quiet_nan = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, quiet_nan, is_nan);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded, rounded), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }
  static Float LoadFloat16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void StoreFloat16(uint16_t* p, Float v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_SIMD_AVX2_H_
