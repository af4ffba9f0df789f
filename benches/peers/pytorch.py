"""PyTorch's side of `make bench-peers`; benches/peers/protocol.rs says what is asked and answered.

    python benches/peers/pytorch.py cpu|cuda
"""

import importlib.metadata
import json
import re
import sys
import time

import torch

import operators
import step

# Runs of a quick case are repeated for this long.
TURN = 0.25


def resident(field):
    """MiB of this process now (VmRSS) or at most (VmHWM); None where there is no /proc."""
    try:
        with open("/proc/self/status") as status:
            return int(re.search(rf"{field}:\s+(\d+)", status.read())[1]) / 1024
    except OSError:
        return None


class Peer:
    def __init__(self, device):
        self.device = torch.device(device)
        self.is_cuda = self.device.type == "cuda"
        # f32 throughout, as the others compute.
        torch.backends.cudnn.allow_tf32 = False
        torch.manual_seed(0)
        self.base = resident("VmRSS")
        self.job = None

    def wait(self):
        if self.is_cuda:
            torch.cuda.synchronize()

    def timed(self):
        start = time.perf_counter()
        self.job()
        self.wait()
        return 1e3 * (time.perf_counter() - start)

    def about(self):
        where = torch.cuda.get_device_name() if self.is_cuda else f"CPU, {torch.get_num_threads()} threads"
        nets = importlib.metadata.version("dynamic_network_architectures")
        return {"version": f"torch {torch.__version__}, dynamic_network_architectures {nets}", "device": where}

    def prepare(self, case, detail):
        facts = {}
        if case in ("train", "infer"):
            build = step.training if case == "train" else step.inference
            self.job, facts["parameters"] = build(int(detail), self.device)
        else:
            build = operators.both if detail == "both" else operators.forward
            self.job = build(case, self.device)
        self.timed()
        return facts

    def first(self, edge):
        return self.prepare("train", edge)

    def run(self):
        times = []
        while sum(times) < 1e3 * TURN:
            times.append(self.timed())
        return {"ms": times}

    def memory(self):
        self.timed()
        peak = resident("VmHWM")
        facts = {"resident_mib": peak - self.base if peak else None}
        if self.is_cuda:
            facts["device_mib"] = torch.cuda.max_memory_allocated() / 2**20
        return facts


def main():
    peer = Peer(sys.argv[1])
    for line in sys.stdin:
        verb, *words = line.split()
        print(json.dumps(getattr(peer, verb)(*words)), flush=True)


if __name__ == "__main__":
    main()
