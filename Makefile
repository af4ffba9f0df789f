# Two commands on a fresh machine; each does its own set-up, the Vulkan driver included.
#
#   make demo          build, then make a labelled data set, train, predict, evaluate, draw the picture
#   make test          build, then run every test
#   make bench-peers   build, install PyTorch, build burn, then time all three beside each other
#
# DEMO_FLAGS passes flags to the demo:  make demo DEMO_FLAGS="--adapter 1"
# PEERS_FLAGS to the comparison:        make bench-peers PEERS_FLAGS="--quick"   (--help lists them)
# VOXSEG_PEERS_PYTHON names a Python that has PyTorch already; without it one is set up below target/.

# Where rustup puts cargo; a shell opened before rustup ran does not look there.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: demo test bench-peers setup
.NOTPARALLEL:

demo: setup
	cargo build --release --locked
	cargo run --release --locked --quiet -- demo $(DEMO_FLAGS)

test: setup
	cargo test --locked --no-fail-fast

bench-peers: setup
	@python=$$(tools/peers_python.sh) && exec "$$python" -B benches/peers/compare.py $(PEERS_FLAGS)

setup:
	@tools/setup.sh
