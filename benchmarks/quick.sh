#!/usr/bin/env bash
# Start the benchmarks in their quick forms, so that none of them breaks unnoticed; nothing is
# asserted beyond that they end. About two minutes on two idle cores.
#     benchmarks/quick.sh [FOLDER]      FOLDER caches the embeddings of calibration.py
set -euo pipefail
cd "$(dirname "$0")"
folder="${1:-$(mktemp -d)}"
quick() {
    echo "-- $*"
    python "$@" >"$folder/quick.log" 2>&1 || { cat "$folder/quick.log"; exit 1; }
}
quick truth.py --quick
quick calibration.py "$folder" --quick
quick features.py --quick
quick heads.py --quick
quick ladder.py --quick
quick backbones.py --quick
quick fine_tuning.py --quick
quick gpu.py --quick --device cpu
quick fusion.py resnet18 --rounds 1
quick engines.py --images 60 --rounds 1
quick strategies.py speed --images 60 --side 64 --repeats 2
quick scale.py --images 1000
for long in baselines.py collection.py copies.py cost.py make_curves.py; do # minutes to hours each
    quick "$long" --help
done
