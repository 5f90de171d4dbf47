#!/bin/sh
# Builds every fuzz target with coverage, on stable Rust, and runs it from its committed corpus, one target a CPU.
#
#   fuzz/run.sh [executions] [target ...]      default: 200000 of each target
#
# Prints a line per target. What crashes is kept in fuzz/artifacts, and the script fails; run it again with
#   fuzz/target/x86_64-unknown-linux-gnu/release/TARGET fuzz/artifacts/FILE
# New inputs go to a temporary folder; set MILLRACE_FUZZ_KEEP to a folder to have them.
set -eu
cd "$(dirname "$0")"
triple=x86_64-unknown-linux-gnu

# Runs one target; prints its line, and what it said last if it failed.
run() {
    target=$1
    mkdir -p "$work/$target"
    seeds="corpus/$target"
    [ "$target" != dns ] || seeds="$seeds ../fastpath/corpus/dns"
    [ "$target" != machine ] || seeds="$seeds ../config/tests/topologies"
    options="-runs=$runs -seed=${MILLRACE_FUZZ_SEED:-1} -timeout=5 -rss_limit_mb=1024 -max_len=2048 -print_final_stats=1"
    [ ! -f "dictionaries/$target.dict" ] || options="$options -dict=dictionaries/$target.dict"
    result=ok
    # shellcheck disable=SC2086 # lists of words
    "target/$triple/release/$target" $options -artifact_prefix="artifacts/$target-" \
        "$work/$target" $seeds >"$work/$target.log" 2>&1 || result=FAILED
    awk -v target="$target" -v result="$result" -v runs="$runs" '
        / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1); else if ($i == "ft:") ft = $(i + 1) }
        /INITED/ { first = cov }
        /^Done / { seconds = $5 }
        /^stat::number_of_executed_units:/ { executed = $2 }
        END {
            printf "fuzz %-10s %s: %d executions in %d s, %d edges covered (%d by the corpus), %d features\n",
                target, result, executed, seconds, cov, first, ft
            # Without counters nothing is explored, and that must not look like success; nor must a run that ended early.
            if (cov < 50) { print "fuzz " target ": no coverage was counted"; exit 1 }
            if (executed < runs) exit 1
        }' "$work/$target.log" && [ "$result" = ok ] || {
        tail -n 40 "$work/$target.log"
        exit 1
    }
}

if [ "${1:-}" = --one ]; then
    work=$MILLRACE_FUZZ_WORK runs=$2
    run "$3"
    exit 0
fi

runs=${1:-200000}
[ $# -eq 0 ] || shift
# Those that take longest begin first.
targets=${*:-"host machine worker membership config norm neighbour message operator zone manifest multicast segment flute dns bier quic health frame"}
# With a target triple given, build scripts and macros are built apart.
export RUSTC_WRAPPER="$PWD/cover.sh"
unset CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR RUSTFLAGS
bins=
for target in $targets; do bins="$bins --bin $target"; done
# shellcheck disable=SC2086 # a list of words
${CARGO:-cargo} build --quiet --locked --release --target "$triple" --target-dir target $bins

work=${MILLRACE_FUZZ_KEEP:-$(mktemp -d)}
[ -n "${MILLRACE_FUZZ_KEEP:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p artifacts
export MILLRACE_FUZZ_WORK="$work"
# Large tables are made and freed in every execution: their memory isn't given back to the system in between.
export MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=1073741824
# shellcheck disable=SC2086 # a list of words
if ! printf '%s\n' $targets | xargs -n 1 -P "$(nproc)" ./run.sh --one "$runs"; then
    echo "fuzz: failed; inputs are in fuzz/artifacts" >&2
    exit 1
fi
