#!/usr/bin/env bash
# Prints the path of a Python that has what benches/peers/requirements.txt lists: VOXSEG_PEERS_PYTHON where it is set, else
# one that is set up in target/peers-venv. Everything else it says goes to the standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${VOXSEG_PEERS_PYTHON:-}" ]; then
    "$VOXSEG_PEERS_PYTHON" -c 'import torch, dynamic_network_architectures' >&2 || {
        echo "VOXSEG_PEERS_PYTHON=$VOXSEG_PEERS_PYTHON lacks a package of benches/peers/requirements.txt" >&2
        exit 1
    }
    echo "$VOXSEG_PEERS_PYTHON"
    exit
fi

venv=$PWD/target/peers-venv
wanted=benches/peers/requirements.txt
# The copy of the list is written last: where it differs, a set-up was cut short or the versions changed.
if ! cmp -s "$wanted" "$venv/installed.txt"; then
    {
        echo "setting up PyTorch in target/peers-venv: a download of some GB"
        python3 -m venv "$venv" || {
            echo "python3 with its venv module is needed   (Debian, Ubuntu: apt-get install python3-venv)"
            exit 1
        }
        "$venv/bin/python" -m pip install --quiet --requirement "$wanted"
        cp "$wanted" "$venv/installed.txt"
    } >&2
fi
echo "$venv/bin/python"
