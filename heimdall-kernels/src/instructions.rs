//! Which vector instructions the processor has, and arithmetic that is written once for all of them.

use std::sync::OnceLock;

/// A set of vector instructions that this processor has.
///
/// Values are made by asking the processor, and nowhere else: to hold one is to be allowed to run
/// its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instructions(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Instructions {
    /// The fastest set of this processor.
    pub(crate) fn fastest() -> Self {
        static FASTEST: OnceLock<Instructions> = OnceLock::new();
        *FASTEST.get_or_init(|| Self::available()[0])
    }

    /// All sets of this processor, the fastest first.
    pub(crate) fn available() -> Vec<Self> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                sets.push(Self(Set::Avx512));
            }
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
            {
                sets.push(Self(Set::Avx2));
            }
        }
        sets.push(Self(Set::Portable));
        sets
    }

    /// Output channels that a tile covers: the width of a panel of packed weights.
    pub(crate) fn panel(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => 64,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => 16,
            Set::Portable => 8,
        }
    }

    /// Runs a kernel with these instructions.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY: `available` found the instructions on this processor.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { x86::run_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { x86::run_avx2(kernel) },
            Set::Portable => kernel.run::<Portable, 2>(),
        }
    }
}

/// A computation that is compiled once for each set of instructions.
///
/// `run` and all that it calls in its inner loops must be `#[inline(always)]`: only then is the code
/// part of the function that turns the instructions on.
pub(crate) trait Kernel {
    type Output;

    /// Runs with vectors of type `V`; a tile is `VECTORS` of them wide.
    fn run<V: Lanes, const VECTORS: usize>(self) -> Self::Output;
}

/// A vector of numbers.
///
/// The functions are safe to call where the instructions of the vector are turned on, which is the
/// case in [`Kernel::run`]; loads and stores take pointers that are valid for `COUNT` numbers and
/// need no alignment.
pub(crate) trait Lanes: Copy {
    /// Numbers in a vector.
    const COUNT: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn subtract(self, other: Self) -> Self;
    unsafe fn multiply(self, other: Self) -> Self;
    unsafe fn divide(self, other: Self) -> Self;
    unsafe fn square_root(self) -> Self;
    /// `self · factor + addend`, rounded once where the processor can.
    unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self;
    /// The greater of the two; `other` where `self` is not a number.
    unsafe fn maximum(self, other: Self) -> Self;
    /// `self` where `condition` is above zero, and zero elsewhere.
    unsafe fn where_positive(self, condition: Self) -> Self;
}

/// One number: what is left over at the end of a row.
impl Lanes for f32 {
    const COUNT: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        value
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises a valid pointer.
        unsafe { *from }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises a valid pointer.
        unsafe { *to = self }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self + other
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        self - other
    }

    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        self * other
    }

    #[inline(always)]
    unsafe fn divide(self, other: Self) -> Self {
        self / other
    }

    #[inline(always)]
    unsafe fn square_root(self) -> Self {
        self.sqrt()
    }

    // Not `mul_add`, which is a slow function where the processor has no such instruction.
    #[inline(always)]
    unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self {
        self * factor + addend
    }

    #[inline(always)]
    unsafe fn maximum(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    #[inline(always)]
    unsafe fn where_positive(self, condition: Self) -> Self {
        if condition > 0.0 { self } else { 0.0 }
    }
}

/// Four numbers, for the compiler to make of them what it can.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 4]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }
}

impl Lanes for Portable {
    const COUNT: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises a pointer that is valid for four numbers.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn divide(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn square_root(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }

    #[inline(always)]
    unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self {
        self.zip(factor, |a, b| a * b).zip(addend, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn maximum(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn where_positive(self, condition: Self) -> Self {
        self.zip(condition, |a, b| if b > 0.0 { a } else { 0.0 })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Vectors of x86.

    use std::arch::x86_64::*;

    use super::{Kernel, Lanes};

    #[target_feature(enable = "avx512f")]
    pub(super) fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<__m512, 4>()
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<__m256, 2>()
    }

    /// Writes the functions of [`Lanes`] that are one instruction each.
    macro_rules! lanes {
        ($vector:ty, $count:literal, $splat:ident, $load:ident, $store:ident, $add:ident,
         $subtract:ident, $multiply:ident, $divide:ident, $root:ident, $fused:ident,
         $maximum:ident, |$value:ident, $condition:ident| $where_positive:expr) => {
            // SAFETY, for all functions: `Lanes` says that the instructions are turned on where
            // they are called, and that pointers are valid for `COUNT` numbers.
            impl Lanes for $vector {
                const COUNT: usize = $count;

                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    unsafe { $splat(value) }
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    unsafe { $add(self, other) }
                }

                #[inline(always)]
                unsafe fn subtract(self, other: Self) -> Self {
                    unsafe { $subtract(self, other) }
                }

                #[inline(always)]
                unsafe fn multiply(self, other: Self) -> Self {
                    unsafe { $multiply(self, other) }
                }

                #[inline(always)]
                unsafe fn divide(self, other: Self) -> Self {
                    unsafe { $divide(self, other) }
                }

                #[inline(always)]
                unsafe fn square_root(self) -> Self {
                    unsafe { $root(self) }
                }

                #[inline(always)]
                unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self {
                    unsafe { $fused(self, factor, addend) }
                }

                #[inline(always)]
                unsafe fn maximum(self, other: Self) -> Self {
                    unsafe { $maximum(self, other) }
                }

                #[inline(always)]
                unsafe fn where_positive(self, $condition: Self) -> Self {
                    let $value = self;
                    unsafe { $where_positive }
                }
            }
        };
    }

    lanes!(
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_div_ps,
        _mm512_sqrt_ps,
        _mm512_fmadd_ps,
        _mm512_max_ps,
        |value, condition| {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(condition, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(positive, value)
        }
    );

    lanes!(
        __m256,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_div_ps,
        _mm256_sqrt_ps,
        _mm256_fmadd_ps,
        _mm256_max_ps,
        |value, condition| {
            let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(condition, _mm256_setzero_ps());
            _mm256_and_ps(positive, value)
        }
    );
}
