"""Times voxseg beside PyTorch and burn on this machine, in turns, and prints one table: `make bench-peers`.

    python benches/peers/compare.py --quick
    python benches/peers/compare.py --peers voxseg,pytorch-cpu --only 'conv3|norm'

Every peer is a process that stays alive; benches/peers/protocol.rs says what it is asked. In each turn each peer runs
the case once (a quick case for a quarter of a second), so that a neighbour's load falls on all. A peer that does not
answer within the limit is ended, and what can only take longer is not asked of it.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections import namedtuple

from process import Failed, Peer, TooLong
from report import Result, report

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGET = os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")

# `after`: the case that has to end within the limit for this one to be worth trying.
Case = namedtuple("Case", "name detail title after")

OPERATORS = [
    ("conv3", "conv 3x3x3 32->32, 64^3"),
    ("depthwise", "conv 3x3x3 depthwise 64, 48^3"),
    ("pointwise", "conv 1x1x1 64->64, 48^3"),
    ("transposed", "transposed conv 2x2x2 64->32, 32^3"),
    ("norm", "instance norm + PReLU 32, 64^3"),
    ("loss", "Dice + focal 4 classes, 64^3"),
]


def cases(edges):
    found = []
    for at, edge in enumerate(edges):
        before = lambda name: (name, str(edges[at - 1])) if at else None
        found.append(Case("infer", str(edge), f"inference, {edge}^3", before("infer")))
        found.append(Case("train", str(edge), f"training step, {edge}^3", before("train") or ("infer", str(edge))))
    for name, title in OPERATORS:
        found.append(Case(name, "forward", f"{title}, forward", None))
        found.append(Case(name, "both", f"{title}, forward + backward", (name, "forward")))
    return found


def cargo(name, *arguments, target):
    """Builds and gives the executable called `name`."""
    command = ["cargo", *arguments, "--locked", "--message-format=json-render-diagnostics", "--target-dir", target]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    made = [m for m in map(json.loads, output.splitlines()) if m.get("executable")]
    found = [m["executable"] for m in made if m["target"]["name"] == name]
    if not found:
        raise OSError(f"cargo made no executable called {name}")
    return found[0]


def voxseg(options):
    binary = cargo("peers", "bench", "--bench", "peers", "--no-run", "--profile", options.profile, target=TARGET)
    return {"voxseg": [binary, "--serve"]}


def pytorch(options):
    found = {"pytorch-cpu": [sys.executable, "-B", os.path.join(ROOT, "benches/peers/pytorch.py"), "cpu"]}
    probe = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    if subprocess.run([sys.executable, "-c", probe]).returncode == 0:
        found["pytorch-cuda"] = found["pytorch-cpu"][:-1] + ["cuda"]
    return found


def build_burn(folder, feature):
    manifest = os.path.join(ROOT, "benches/peers/burn/Cargo.toml")
    command = ["build", "--release", "--manifest-path", manifest, *(["--features", feature] if feature else [])]
    return cargo("burn-peer", *command, target=os.path.join(TARGET, folder))


def burn(options):
    binary = build_burn("burn", "wgpu" if "burn-wgpu" in options.peers else None)
    return {"burn-flex": [binary, "flex"], "burn-wgpu": [binary, "wgpu"]}


def burn_avx512(options):
    """With AVX-512 in its products of matrices, which burn leaves off by itself: a build of its own."""
    return {"burn-flex-avx512": [build_burn("burn-avx512", "avx512"), "flex"]}


# Who sets up which peers.
BUILDERS = [
    (voxseg, {"voxseg"}),
    (pytorch, {"pytorch-cpu", "pytorch-cuda"}),
    (burn, {"burn-flex", "burn-wgpu"}),
    (burn_avx512, {"burn-flex-avx512"}),
]


def start_all(options):
    """The peers that are wanted and there; voxseg must be."""
    commands = {}
    for builder, names in BUILDERS:
        if not names & set(options.peers):
            continue
        try:
            commands |= builder(options)
        except (OSError, subprocess.CalledProcessError) as error:
            if "voxseg" in names:
                raise
            print(f"{builder.__name__} is left out: it could not be set up: {error}", file=sys.stderr)
    return [Peer(name, commands[name], options.limit) for name in options.peers if name in commands]


def measure(case, peers, turns, results):
    """Fills `results`, by peer and case, with the times of one case."""
    ready = []
    for peer in peers:
        result = results[peer.name, case.name, case.detail] = Result()
        before = results.get((peer.name, *case.after)) if case.after else None
        if before and before.failure:
            result.failure = "not tried"
            continue
        if attempt(result, peer, lambda: result.facts.update(peer.ask(f"prepare {case.name} {case.detail}"))):
            ready.append(peer)
    for _ in range(turns):
        for peer in list(ready):
            result = results[peer.name, case.name, case.detail]
            if not attempt(result, peer, lambda: result.ms.extend(peer.ask("run")["ms"])):
                ready.remove(peer)


def attempt(result, peer, ask):
    try:
        ask()
    except TooLong:
        result.failure = f"> {peer.limit:.0f} s"
    except Failed as error:
        result.failure = "failed"
        print(error, file=sys.stderr)
    return result.failure is None


def measure_start(edge, peers, results):
    """Start-up and memory of a fresh process that does two training steps."""
    for peer in peers:
        result = results[peer.name, "start", str(edge)] = Result()
        before = results.get((peer.name, "train", str(edge)))
        if before and before.failure:
            result.failure = "not tried"
            continue
        peer.end()

        def ask():
            result.facts |= peer.ask(f"first {edge}")
            result.ms.append(1e3 * peer.age())
            result.facts |= peer.ask("memory")

        attempt(result, peer, ask)
        peer.end()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    everyone = "voxseg,pytorch-cpu,pytorch-cuda,burn-flex,burn-wgpu"
    parser.add_argument("--peers", default=everyone, help=f"{everyone}; burn-flex-avx512 is one more build of burn")
    parser.add_argument("--edges", default="32,64", help="edges of the patch of the whole step, rising")
    parser.add_argument("--quick", action="store_true", help="only the whole step, at 32^3")
    parser.add_argument("--only", default="", help="regular expression that a case's title must match")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--limit", type=float, default=60, help="seconds that a peer may take for one answer")
    parser.add_argument("--profile", default="bench", help="cargo profile of voxseg's host code")
    parser.add_argument("--json", help="file for all times")
    options = parser.parse_args()
    options.peers = options.peers.split(",")
    options.edges = [32] if options.quick else [int(e) for e in options.edges.split(",")]
    return options


def main():
    options = arguments()
    peers = start_all(options)
    wanted = [c for c in cases(options.edges) if re.search(options.only, c.title)]
    if options.quick:
        wanted = [c for c in wanted if c.name in ("infer", "train")]
    abouts, results = {}, {}
    for peer in list(peers):
        about = Result()
        if attempt(about, peer, lambda: about.facts.update(peer.ask("about"))):
            abouts[peer.name] = about.facts
        else:
            peers.remove(peer)
    for case in wanted:
        print(f"... {case.title}", file=sys.stderr, flush=True)
        measure(case, peers, options.turns, results)
    starts = [int(c.detail) for c in wanted if c.name == "train"]
    for edge in starts:
        print(f"... start-up and memory, {edge}^3", file=sys.stderr, flush=True)
        measure_start(edge, peers, results)
    for peer in peers:
        peer.end()
    print(report(abouts, wanted, starts, results, options))
    if options.json:
        rows = [dict(zip(("peer", "case", "detail"), key), **r.__dict__) for key, r in results.items()]
        with open(options.json, "w") as file:
            json.dump({"peers": abouts, "results": rows}, file, indent=1)


if __name__ == "__main__":
    main()
