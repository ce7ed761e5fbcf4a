// The exponential for instruction sets without a table lookup.
#ifndef PFM_CPU_EXP_H_
#define PFM_CPU_EXP_H_

namespace pfm::cpu {

// e^x for x <= 88. x <= -88 gives exactly 0; NaN gives NaN. The relative error is below 1.2e-7 + 1.4e-8 |x|; the
// rounding of x to float alone contributes up to 6e-8 |x|.
template <class Simd>
typename Simd::Float ExpByPolynomial(typename Simd::Float x) {
  using Float = typename Simd::Float;
  const Float log2e = Simd::Set(1.44269504f);
  const Float clamped = Simd::Max(Simd::Set(-88.0f), x);
  const Float whole = Simd::Round(Simd::Mul(clamped, log2e));
  const Float part = Simd::MulSub(clamped, log2e, whole);
  // Minimax polynomial of 2^part on [-0.5, 0.5], exact at 0.
  Float power = Simd::Set(1.5353362e-4f);
  power = Simd::Fma(power, part, Simd::Set(1.3398875e-3f));
  power = Simd::Fma(power, part, Simd::Set(9.618437e-3f));
  power = Simd::Fma(power, part, Simd::Set(5.5503324e-2f));
  power = Simd::Fma(power, part, Simd::Set(2.4022648e-1f));
  power = Simd::Fma(power, part, Simd::Set(6.931472e-1f));
  power = Simd::Fma(power, part, Simd::Set(1.0f));
  return Simd::TimesPowerOfTwo(power, whole);
}

}  // namespace pfm::cpu

#endif  // PFM_CPU_EXP_H_
