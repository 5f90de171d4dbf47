#!/bin/sh
# Builds every fuzz target with coverage, on stable Rust, and runs it from its committed corpus.
#
#   fuzz/run.sh [executions] [target ...]      default: 200000 of each target
#
# Prints a line per target. What crashes is kept in fuzz/artifacts, and the script fails; run it again with
#   fuzz/target/x86_64-unknown-linux-gnu/release/TARGET fuzz/artifacts/FILE
# New inputs go to a temporary folder; set MILLRACE_FUZZ_KEEP to a folder to have them.
set -eu
cd "$(dirname "$0")"
runs=${1:-200000}
[ $# -eq 0 ] || shift
targets=${*:-"dns zone frame quic worker config"}
triple=x86_64-unknown-linux-gnu
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

failed=
for target in $targets; do
    mkdir -p "$work/$target"
    seeds="corpus/$target"
    [ "$target" != dns ] || seeds="$seeds ../fastpath/corpus/dns"
    options="-runs=$runs -seed=${MILLRACE_FUZZ_SEED:-1} -timeout=5 -rss_limit_mb=1024 -max_len=2048 -print_final_stats=1"
    [ ! -f "dictionaries/$target.dict" ] || options="$options -dict=dictionaries/$target.dict"
    # shellcheck disable=SC2086 # lists of words
    if "target/$triple/release/$target" $options -artifact_prefix="artifacts/$target-" \
        "$work/$target" $seeds >"$work/$target.log" 2>&1; then
        result=ok
    else
        result=FAILED
        failed="$failed $target"
    fi
    awk -v target="$target" -v result="$result" '
        / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1); else if ($i == "ft:") ft = $(i + 1) }
        /INITED/ { first = cov }
        /^stat::number_of_executed_units:/ { executed = $2 }
        END {
            printf "fuzz %-8s %s: %d executions, %d edges covered (%d by the corpus), %d features\n",
                target, result, executed, cov, first, ft
            # Without counters nothing is explored, and that must not look like success.
            if (cov < 50) { print "fuzz " target ": no coverage was counted"; exit 1 }
        }' "$work/$target.log" || failed="$failed $target"
    [ "$result" = ok ] || tail -n 40 "$work/$target.log"
done
if [ -n "$failed" ]; then
    echo "fuzz: failed:$failed; inputs are in fuzz/artifacts" >&2
    exit 1
fi
