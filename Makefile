# Two commands on a fresh machine; each does its own set-up, the Vulkan driver included.
#
#   make demo   build, then make a labelled data set, train, predict, evaluate, draw the picture
#   make test   build, then run every test
#
# DEMO_FLAGS passes flags to the demo:  make demo DEMO_FLAGS="--adapter 1"

# Where rustup puts cargo; a shell opened before rustup ran does not look there.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: demo test setup
.NOTPARALLEL:

demo: setup
	cargo build --release --locked
	cargo run --release --locked --quiet -- demo $(DEMO_FLAGS)

test: setup
	cargo test --locked --no-fail-fast

setup:
	@tools/setup.sh
