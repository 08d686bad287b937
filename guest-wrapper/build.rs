//! Links the wrapper without libc, static, with no symbols but those that the host looks up.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let retained = format!("{folder}/retained-symbols");
    println!("cargo::rerun-if-changed={retained}");
    println!("cargo::rustc-link-arg=-fuse-ld=bfd");
    println!("cargo::rustc-link-arg=-nostartfiles");
    println!("cargo::rustc-link-arg=-nostdlib");
    println!("cargo::rustc-link-arg=-static");
    println!("cargo::rustc-link-arg=-no-pie");
    // Sections close together: a page's worth of padding each would be most of the file.
    println!("cargo::rustc-link-arg=-Wl,-z,noseparate-code,-z,max-page-size=4096,-z,norelro");
    println!("cargo::rustc-link-arg=-Wl,--build-id=sha1,--no-eh-frame-hdr");
    // Tables for unwinding, which nobody does: a panic ends it.
    println!("cargo::rerun-if-changed={folder}/discarded.ld");
    println!("cargo::rustc-link-arg=-Wl,-T,{folder}/discarded.ld");
    println!("cargo::rustc-link-arg=-Wl,--retain-symbols-file={retained}");
}
