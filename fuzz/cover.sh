#!/bin/sh
# A wrapper of rustc for `run.sh`: gives our own crates the coverage that libFuzzer reads, and leaves the rest as fast as
# it is. What `cargo fuzz` passes too: a counter per edge, and the operands of comparisons. No sanitizer: that takes a
# nightly compiler, and the code under test has no `unsafe`; arithmetic and bounds are checked by the profile.
set -eu
case " $* " in
*" --crate-name millrace_"*" --target "* | *" --crate-name "*" targets/"*)
    exec "$@" --cfg fuzzing --check-cfg "cfg(fuzzing)" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
*) exec "$@" ;;
esac
