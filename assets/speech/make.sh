#!/bin/sh
# Makes alice.wav and bob.wav from alice.txt and bob.txt. Needs espeak-ng and sox.
# The same versions give the same bytes: nothing here is random (-D: no dither).
set -eu
cd "$(dirname "$0")"
raw=$(mktemp --suffix .wav)
trap 'rm -f "$raw"' EXIT

# speak NAME VOICE PITCH WORDS_PER_MINUTE
speak() {
    espeak-ng -v "$2" -p "$3" -s "$4" -f "$1.txt" -w "$raw"
    sox -D "$raw" -r 16000 -b 16 -c 1 "$1.wav" gain -6 highpass 60 norm -3 pad 0.2 0.3
}

speak alice en-us+f3 55 165
speak bob en-gb-x-rp+m3 35 170
sha256sum alice.wav bob.wav
