#!/usr/bin/env bash
# Encodes a small dataset, generates images, exports and checks them, with files that are made on the spot.
# Usage: examples/demo/demo.sh PATH-TO-ldm-batch, from the root of the repository. Everything is written to demo/.
set -euo pipefail

ldm=$1
export LDM_BATCH_LOG_FORMAT=text

run() {
  printf '\n$ %s\n' "$*"
  "$@"
}

rm -rf demo
echo "Writing a small untrained model and 64 drawn pictures"
run go run ./examples/demo demo

run "$ldm" plan examples/demo/encode.yaml
run "$ldm" encode --quiet examples/demo/encode.yaml
run "$ldm" sample --quiet --model demo/model/model.safetensors --config demo/model/model.yaml --output demo/samples \
  --task class --classes 0-3 --per-class 4 --size 64 --steps 20 --guidance 2 --rows-per-part 8
run "$ldm" status demo/samples
run "$ldm" verify demo/latents
run "$ldm" verify demo/samples
run "$ldm" export --quiet --format png demo/samples demo/images

cat <<'TEXT'

Done.
  demo/latents/data   latents of the pictures, Arrow
  demo/samples/data   generated images with their labels, Arrow
  demo/images         the generated images as PNG files
The model is untrained, so the generated images are noise. For pictures, use the checkpoint of a trained model: README.md.
TEXT
