"""Times the extraction of mel bands by SciPy and by librosa, on request.

usage: time_features.py N_FFT HOP BANDS

Each line of stdin is `METHOD SAMPLE_RATE`, where METHOD is `scipy` (two-sided transform of complex
samples and a product with mel filters) or `librosa` (`melspectrogram` of the real part). One second
of samples is transformed, and a line with the elapsed seconds is printed. What can be planned is
planned before. The line `versions` asks for those of the packages.
"""

import functools
import platform
import sys
import time
import warnings

import librosa
import numpy
import scipy
import scipy.signal

warnings.filterwarnings("ignore", message="Empty filters detected")
N_FFT, HOP, BANDS = map(int, sys.argv[1:])


@functools.cache
def samples(rate):
    generator = numpy.random.default_rng(1)
    pair = generator.standard_normal((2, rate), dtype=numpy.float32)
    return (pair[0] + 1j * pair[1]).astype(numpy.complex64)


@functools.cache
def real_part(rate):
    return numpy.ascontiguousarray(samples(rate).real)


@functools.cache
def one_sided_filters(rate):
    return librosa.filters.mel(sr=rate, n_fft=N_FFT, n_mels=BANDS)


@functools.cache
def two_sided_filters(rate):
    """Filters of the distance to the center, for bins in the order of the transform."""
    upper = one_sided_filters(rate)
    return numpy.concatenate([upper[:, :-1], upper[:, :0:-1]], axis=1) * 0.5


def decibels(power):
    return 10 * numpy.log10(numpy.maximum(power, 1e-10))


def scipy_bands(rate):
    _, _, spectrum = scipy.signal.stft(
        samples(rate), rate, window="hann", nperseg=N_FFT, noverlap=N_FFT - HOP,
        return_onesided=False, boundary=None, padded=False, scaling="psd",
    )
    return decibels(two_sided_filters(rate) @ (spectrum.real**2 + spectrum.imag**2))


def librosa_bands(rate):
    power = librosa.feature.melspectrogram(
        y=real_part(rate), sr=rate, n_fft=N_FFT, hop_length=HOP, n_mels=BANDS, center=False,
    )
    return decibels(power)


METHODS = {"scipy": scipy_bands, "librosa": librosa_bands}

VERSIONS = (
    f"Python {platform.python_version()}, NumPy {numpy.__version__}, "
    f"SciPy {scipy.__version__}, librosa {librosa.__version__}"
)

for line in sys.stdin:
    if line.strip() == "versions":
        print(VERSIONS, flush=True)
        continue
    method, rate = line.split()
    bands, rate = METHODS[method], int(rate)
    real_part(rate), two_sided_filters(rate)
    start = time.perf_counter()
    bands(rate)
    print(time.perf_counter() - start, flush=True)
