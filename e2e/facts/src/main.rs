//! `facts API APIMACHINERY KUBERNETES OUT`: writes the tables into the folder OUT, or with `--check` in front compares.
//!
//! Invariant: takes folders, starts no program; `e2e/facts/generate.sh` downloads the modules.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = arguments.first().is_some_and(|a| a == "--check");
    if check {
        arguments.remove(0);
    }
    let [api, apimachinery, kubernetes, out] = arguments.as_slice() else {
        bail!("usage: facts [--check] API APIMACHINERY KUBERNETES OUT");
    };
    let sources = facts::Sources {
        api: Path::new(api),
        apimachinery: Path::new(apimachinery),
        kubernetes: Path::new(kubernetes),
    };
    for output in facts::generate(&sources)? {
        let path = PathBuf::from(out).join(output.name);
        if check {
            let old = std::fs::read(&path).with_context(|| format!("read {path:?}"))?;
            let same = zstd::decode_all(old.as_slice())? == zstd::decode_all(output.bytes.as_slice())?;
            if !same {
                bail!("{path:?} differs from its definitions: run e2e/facts/generate.sh");
            }
        } else {
            std::fs::write(&path, &output.bytes).with_context(|| format!("write {path:?}"))?;
            println!("{} {} bytes", path.display(), output.bytes.len());
        }
    }
    Ok(())
}
