"""Scores a recording against what was played: PESQ wide-band (ITU-T P.862.2), after aligning the two.

Usage: pesq_wb.py PLAYED.wav HEARD.wav
Prints {"pesq": MOS-LQO, "lag_ms": how much later the recording is}. Needs the packages numpy and pesq.
"""

import json
import sys
import wave

import numpy as np
from pesq import pesq

RATE = 16_000
# What was played begins at most so late in the recording.
LATEST_S = 5


def load(path):
    """Samples of a 16-bit WAV file, channels averaged, at 16 kHz."""
    with wave.open(path) as file:
        if file.getsampwidth() != 2:
            sys.exit(f"{path} has {8 * file.getsampwidth()} bits a sample; 16 are needed")
        raw = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        samples = raw.reshape(-1, file.getnchannels()).mean(axis=1)
        return resample(samples, file.getframerate())


def resample(samples, rate):
    """Band-limited change of rate: the spectrum is cut or padded."""
    if rate == RATE:
        return samples
    length = round(len(samples) * RATE / rate)
    spectrum = np.fft.rfft(samples)
    wanted = np.zeros(length // 2 + 1, dtype=complex)
    kept = min(len(spectrum), len(wanted))
    wanted[:kept] = spectrum[:kept]
    return np.fft.irfft(wanted, length) * (length / len(samples))


def lag(played, heard):
    """By how many samples `heard` is later: the highest peak of the cross-correlation."""
    size = 1 << (len(played) + len(heard)).bit_length()
    product = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size))
    return int(np.argmax(np.fft.irfft(product, size)[: LATEST_S * RATE]))


def compare(played, heard):
    """PESQ of the part of `heard` that matches, and how much later that is."""
    late = lag(played, heard)
    aligned = heard[late : late + len(played)]
    if len(aligned) < len(played) // 2:
        sys.exit("the recording holds less than half of what was played")
    played = played[: len(aligned)]
    as_pcm = lambda samples: np.clip(np.round(samples), -32768, 32767).astype(np.int16)
    score = pesq(RATE, as_pcm(played), as_pcm(aligned), "wb")
    return {"pesq": float(score), "lag_ms": 1000 * late / RATE}


if __name__ == "__main__":
    print(json.dumps(compare(load(sys.argv[1]), load(sys.argv[2]))))
