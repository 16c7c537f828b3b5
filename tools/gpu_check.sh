#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: does everything compute what it should there, and how fast?
#
#   tools/gpu_check.sh [FOLDER]      logs and figures go to FOLDER (default gpu_check); a short table comes last
#
# Works without a network. PYTHON is an interpreter with this project's extra `train`, whose torch is a CUDA build, and,
# for TensorRT, the extra `tensorrt`; on a bare machine give it a folder of wheels as well: WHEELS=wheels. QUICK=1 measures
# TCM alone. DEVICE=cpu SMALL=1 tries the script itself out where there is no GPU.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

out=${1:-gpu_check}
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
networks=tsm,tcm,tanet,stm,gtdnet frames=8,16 rows=1,4,16,64
if [ -n "${QUICK:-}" ]; then networks=tcm frames=8 rows=1,64; fi
common=(--device "$device" --networks "$networks" --parts networks --graphs "$out/graphs")
if [ -n "${SMALL:-}" ]; then common+=(--backbone resnet26 --size 32 --width 0.125 --rounds 2); fi
failed=()
mkdir -p "$out"

step() { # step NAME COMMAND...: runs it, logs it, goes on if it fails
    local name=$1 started=$SECONDS
    shift
    printf '%-24s ' "$name"
    if "$@" >"$out/$name.log" 2>&1; then
        printf 'ok, %d s\n' $((SECONDS - started))
    else
        printf 'FAILED, %d s; the end of %s:\n' $((SECONDS - started)) "$out/$name.log"
        tail -n 5 "$out/$name.log" | sed 's/^/    /'
        failed+=("$name")
    fi
}

has() { "$python" -c "import $1" 2>/dev/null; }

if [ -n "${WHEELS:-}" ]; then
    step wheels "$python" -m pip install --no-index --find-links "$WHEELS" --editable '.[train]'
fi
if [ "$device" = cuda ]; then
    step driver nvidia-smi
    step torch "$python" -c 'import torch; assert torch.cuda.is_available(), "torch sees no GPU"; print(torch.__version__)'
fi
if [ -z "${SMALL:-}" ] && has pytest; then
    step tests "$python" -m pytest -q tests/engines/backends/test_eager.py tests/engines/test_engines.py
fi

# The step's answers are compared with the eager network on the CPU in each of these: the last column of the table.
step eager "$python" -m tools.bench "${common[@]}" --backends eager --frames "$frames" --rows "$rows" \
    --precision fp16,fp32 --json "$out/eager.json"
step throughput "$python" -m tools.bench "${common[@]}" --backends eager --frames 8 --rows 128 --networks tcm \
    --precision fp16 --json "$out/throughput.json"
step compiled "$python" -m tools.bench "${common[@]}" --backends compiled --frames 8 --rows 1,64 --networks tcm \
    --precision fp16 --json "$out/compiled.json"
if has tensorrt; then
    step tensorrt "$python" -m tools.bench "${common[@]}" --backends tensorrt --frames "$frames" --rows "$rows" \
        --precision fp16 --json "$out/tensorrt.json"
    step tensorrt-128 "$python" -m tools.bench "${common[@]}" --backends tensorrt --frames 8 --rows 128 \
        --networks tcm --precision fp16 --json "$out/tensorrt-128.json"
    step build "$python" -m streamer build default --backend tensorrt
    step verify "$python" -m streamer verify default --backend tensorrt
else
    echo 'tensorrt                 left out: not installed for this Python'
fi

shopt -s nullglob
found=("$out"/*.json)
if [ "${#found[@]}" -gt 0 ]; then
    "$python" -m tools.bench --show "${found[@]}" | tee "$out/table.txt"
fi
if [ "${#failed[@]}" -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
