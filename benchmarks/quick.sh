#!/usr/bin/env bash
# Start the benchmarks in their quick forms, so that none of them breaks unnoticed; nothing is
# asserted beyond that they end. One a core at a time, a minute or two in all.
#     benchmarks/quick.sh [FOLDER]      FOLDER caches the embeddings of calibration.py
set -euo pipefail
cd "$(dirname "$0")"
folder="${1:-$(mktemp -d)}"
export folder
quick() {
    echo "-- $*"
    log=$(mktemp -p "$folder")
    # shellcheck disable=SC2068  (a line of arguments without spaces in them)
    python $@ >"$log" 2>&1 || { echo "-- $* failed:"; cat "$log"; return 255; }
}
export -f quick
export OMP_NUM_THREADS=1
xargs -P "$(nproc)" -I{} bash -c "quick {}" <<EOF
calibration.py $folder --quick
fine_tuning.py --quick
gpu.py --quick --device cpu
decoding.py --quick
strategies.py speed --images 60 --side 64 --repeats 2
truth.py --quick
features.py --quick
second_opinion.py --quick
operating_points.py --quick
slices.py --sets 10
heads.py --quick
tasks.py $folder --quick --task multilabel --task detection
ladder.py --quick
backbones.py --quick
fusion.py resnet18 --rounds 1
runtimes.py --quick
engines.py --images 60 --rounds 1
scale.py --images 1000
scale.py --steps --images 1000 2000 --classes 5 10
baselines.py --help
collection.py --help
copies.py --help
cost.py --help
groups.py --help
make_curves.py --help
EOF
