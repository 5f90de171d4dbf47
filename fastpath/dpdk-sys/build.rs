//! Binds the installed DPDK: bindgen for what it exports, a C shim for what is inline, a macro or an anonymous union.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

/// The libraries called directly. Drivers are plug-ins that the EAL loads itself.
const LIBRARIES: &[&str] = &["ethdev", "mbuf", "mempool", "ring", "eal", "bus_vdev"];

/// All that is bound, in one place.
const FUNCTIONS: &[&str] = &[
    "shim_.*",
    "rte_version|rte_strerror",
    "rte_eal_(init|cleanup|has_hugepages|get_runtime_dir)|rte_vdev_(un)?init|rte_dev_probe",
    "rte_thread_(un)?register",
    "rte_eth_dev_(start|stop|close|is_removed|get_port_by_name|set_mtu|adjust_nb_rx_tx_desc)",
    "rte_eth_(rx|tx)_queue_setup|rte_eth_stats_get|rte_eth_macaddr_get",
    "rte_eth_promiscuous_(en|dis)able",
    "rte_eth_allmulticast_enable",
    "rte_pktmbuf_(pool_create|free_bulk)|rte_mempool_(free|avail_count)",
];
const VARIABLES: &[&str] = &["rte_eth_fp_ops", "RTE_MAX_ETHPORTS", "RTE_PKTMBUF_HEADROOM", "SHIM_.*"];
const TYPES: &[&str] = &["rte_mbuf", "rte_eth_stats", "shim_device"];

fn main() {
    println!("cargo:rerun-if-changed=c");
    let version = pkg_config("--modversion").join("");
    let release = version.split('.').take(2).map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    if release < vec![22, 11] {
        fail(&format!("DPDK {version} is too old: 22.11 or later is needed"));
    }

    // All of the flags: `-march` and `-include` matter for the inline functions of the headers.
    let cflags = pkg_config("--cflags");
    let mut shim = cc::Build::new();
    shim.file("c/shim.c").opt_level(3).warnings(false);
    for flag in &cflags {
        shim.flag(flag);
    }
    shim.compile("millrace_dpdk_shim");
    for flag in pkg_config("--libs-only-L") {
        println!("cargo:rustc-link-search=native={}", flag.trim_start_matches("-L"));
    }
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib=rte_{library}");
    }

    let mut bindings = bindgen::Builder::default().header("c/shim.h").clang_args(&cflags);
    for functions in FUNCTIONS {
        bindings = bindings.allowlist_function(functions);
    }
    for variables in VARIABLES {
        bindings = bindings.allowlist_var(variables);
    }
    for types in TYPES {
        bindings = bindings.allowlist_type(types);
    }
    let bindings = bindings
        // A C enum may hold a value that Rust never heard of.
        .default_enum_style(bindgen::EnumVariation::Consts)
        // A struct that changed fails the build instead of the machine.
        .layout_tests(true)
        .use_core()
        .derive_default(true)
        .wrap_unsafe_ops(true)
        .generate_comments(false)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .generate();
    let bindings = match bindings {
        Ok(bindings) => bindings.to_string(),
        Err(error) => fail(&format!(
            "bindgen can't read DPDK's headers: {error}. Errors about vector types mean that libclang and clang are of \
             two versions: set LIBCLANG_PATH to the one that matches (Debian 12: /usr/lib/llvm-14/lib)"
        )),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    fs::write(out.join("bindings.rs"), bindings).expect("OUT_DIR is writable");
}

/// What pkg-config says about libdpdk. Asked directly because the `pkg-config` crate drops `-march` and `-include`.
fn pkg_config(question: &str) -> Vec<String> {
    let answer = match Command::new("pkg-config").args([question, "libdpdk"]).output() {
        Ok(answer) => answer,
        Err(error) => fail(&format!("pkg-config can't be run ({error}): apt-get install pkg-config")),
    };
    if !answer.status.success() {
        fail("DPDK 22.11 or later is missing: apt-get install libdpdk-dev");
    }
    String::from_utf8_lossy(&answer.stdout).split_whitespace().map(str::to_owned).collect()
}

/// Ends the build with one line that says what to do.
fn fail(why: &str) -> ! {
    eprintln!("dpdk-sys: {why}");
    std::process::exit(1);
}
