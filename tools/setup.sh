#!/bin/sh
# Installs what building, testing and the demo need on Debian 12 with Rust, as root. Running it again is quick:
# what is there is left alone. Exit codes: 0 all there, 3 this system isn't one that it knows.
set -eu

# The packages and their versions are Debian 12's, and the binaries are for amd64. MILLRACE_ANY_SYSTEM=1 tries elsewhere.
system="$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown} ${VERSION_ID:-}" || true) $(uname -m)"
if [ "$system" != "debian 12 x86_64" ] && [ "${MILLRACE_ANY_SYSTEM:-}" != 1 ]; then
    echo "setup: this is $system, not debian 12 x86_64; MILLRACE_ANY_SYSTEM=1 goes on at your own risk" >&2
    exit 3
fi

# Building: DPDK with its headers, one clang (bindgen loads its library), protocol buffers with their well-known types.
build="libdpdk-dev dpdk-dev pkg-config gcc g++ make libclang-14-dev clang-14 protobuf-compiler libprotobuf-dev"
# Test hosts: namespaces, captures, certificates; another Debian for what is newer there.
hosts="debootstrap iproute2 iputils-ping ethtool tcpdump tshark nftables procps util-linux coreutils openssl"
# Clients, servers and libraries nobody here wrote.
peers="libnorm-dev uftp bind9-dnsutils knot knot-dnsutils nsd dnsperf curl wrk socat python3 python3-scapy"

missing=""
for package in $build $hosts $peers; do
    case "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" in
    installed) ;;
    *) missing="$missing $package" ;;
    esac
done

if [ -n "$missing" ]; then
    echo "setup: installing$missing"
    # Name servers come with units that would start at once; tests start their own copies.
    ours=""
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        ours=yes
    fi
    trap '[ -z "$ours" ] || rm -f /usr/sbin/policy-rc.d' EXIT
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # shellcheck disable=SC2086 # a list of words
    apt-get install -q -y --no-install-recommends $missing
fi

# Rust comes by rustup here: the toolchain's parts are asked for by name, whatever profile it was installed with.
command -v rustup >/dev/null || { echo "setup: rustup is missing; install Rust with it" >&2; exit 3; }
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
if ! rustup target list --installed | grep -qx wasm32-wasip2; then
    rustup target add wasm32-wasip2
fi
# Miri is part of nightly Rust alone, and of whichever there is: nothing that is shipped is built with it.
if ! rustup run nightly cargo miri --version >/dev/null 2>&1; then
    rustup toolchain list | grep -q '^nightly' || rustup toolchain install --profile minimal --component miri nightly
    rustup component add --toolchain nightly miri rust-src
fi
# One version for everybody, so that profiles and summaries read alike everywhere; a newer one that is there serves too.
nextest=0.9.143
have="$(cargo nextest --version 2>/dev/null | sed -n '1s/^cargo-nextest \([0-9.]*\).*/\1/p')"
if [ "$(printf '%s\n' "$nextest" "${have:-0}" | sort -V | tail -n 1)" != "${have:-0}" ]; then
    # Built from source, outside this workspace's target folder; takes some minutes, once.
    cargo install --locked --version "$nextest" cargo-nextest
fi

# 256 pages of 2 MiB hold the ports of every test that may run at once. A machine that lends none still works: the
# ports then run on ordinary pages, with a warning.
pages=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
if [ -w "$pages" ] && [ "$(cat "$pages")" -lt 256 ]; then
    echo 256 >"$pages" || true
    [ "$(cat "$pages")" -ge 256 ] || echo "setup: the kernel lends $(cat "$pages") hugepages of 256; going on"
fi
echo "setup: all there"
