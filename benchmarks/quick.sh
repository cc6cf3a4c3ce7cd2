#!/usr/bin/env bash
# Every benchmark of projections starts and ends, in its quick form; nothing is asserted.
# On two idle cores: truth 20 s, calibration 30 s when FOLDER is empty.
#     benchmarks/quick.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")"
folder="${1:-$(mktemp -d)}"
python truth.py --quick
python calibration.py "$folder" --quick
