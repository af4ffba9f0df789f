#!/usr/bin/env bash
# Makes a machine ready to build and run voxseg: a Rust tool chain, a linker, a graphics driver.
#
# What is there already is left alone. What Debian or Ubuntu can install is installed; everything
# else is named, with the command to type, and the script ends with status 1.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'set-up: %s\n' "$@" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# version_at_least 1.96.0 1.95: whether the first version is the second or later.
version_at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)" = "$2" ]
}

is_debian_like() {
    [ -r /etc/os-release ] && (. /etc/os-release && [[ " ${ID:-} ${ID_LIKE:-} " =~ \ (debian|ubuntu)\  ]])
}

# install WHY ELSEWHERE PACKAGE...: with apt-get where that works, else says ELSEWHERE.
install() {
    local why=$1 elsewhere=$2 as_root=()
    shift 2
    is_debian_like && has apt-get || fail "$why" "$elsewhere"
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || fail "$why" "as root, run: apt-get install $*"
        as_root=(sudo)
    fi
    echo "set-up: $why: installing $*"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
    # A fresh container has no package lists; where an update fails, older lists may still do.
    "${apt[@]}" update || true
    "${apt[@]}" install --no-install-recommends "$@" \
        || fail "apt-get could not install: $*" "install them by hand, then run this again"
}

check_rust() {
    local needed found
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    has cargo || fail "cargo, the Rust build tool, is not installed" \
        "get Rust $needed or later with rustup: https://rustup.rs"
    found=$(cargo --version | cut -d ' ' -f 2)
    version_at_least "${found%%-*}" "$needed" || fail "cargo $found is too old: Rust $needed or later is needed" \
        "update it with: rustup update stable   (no rustup? https://rustup.rs)"
}

check_linker() {
    has cc && return
    install "no C linker, which Rust needs to link programs" \
        "install gcc or clang" gcc libc6-dev
}

# A driver manifest where the Vulkan loader looks for one.
has_vulkan_driver() {
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && return
    local folder
    for folder in /usr/share /usr/local/share /etc /usr/local/etc "${XDG_DATA_HOME:-${HOME:-/root}/.local/share}"; do
        compgen -G "$folder/vulkan/icd.d/*.json" >/dev/null && return
    done
    return 1
}

# Where there is no ldconfig to ask, the driver's installer is trusted to have brought the loader.
has_vulkan_loader() {
    local ldconfig
    ldconfig=$(PATH="$PATH:/sbin:/usr/sbin" command -v ldconfig) || return 0
    "$ldconfig" -p | grep -F 'libvulkan.so.1' >/dev/null
}

check_vulkan() {
    # Metal and DirectX 12 come with macOS and Windows.
    [ "$(uname -s)" = Linux ] || return 0
    has_vulkan_driver && has_vulkan_loader && return
    install "no Vulkan driver, which voxseg computes with (Mesa's lavapipe runs on any CPU)" \
        "install your GPU's, or: dnf install mesa-vulkan-drivers vulkan-loader   pacman -S vulkan-swrast vulkan-icd-loader" \
        mesa-vulkan-drivers libvulkan1
}

check_rust
check_linker
check_vulkan
