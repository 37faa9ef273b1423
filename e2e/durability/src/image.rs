//! What a drive may hold after the power went at some instant, as a file system that can be mounted again.
//!
//! Used by the power-cut proof. Invariant: what was flushed before the instant is in the image; what was written later is
//! not; what lies between follows the chosen [`Cut`].

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::Dice;
use crate::device::{BLOCK, Log, Told, patch};

/// What becomes of writes that no flush has covered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// All are kept: a drive with power-loss protection.
    KeepAll,
    /// None is kept.
    DropAll,
    /// Half of them, by chance, in pieces of 4 KiB.
    Half,
}

/// Writes the device as of `at_ns` into a sparse file.
pub fn rebuild(log: &Log, at_ns: u64, cut: Cut, dice: &mut Dice, size: u64, path: &Path) -> Result<()> {
    let end = log.told.partition_point(|(time, _)| *time <= at_ns);
    let told = log.told.get(..end).unwrap_or_default();
    let flushed = told.iter().rposition(|(_, told)| matches!(told, Told::Flush)).unwrap_or(0);
    let mut blocks = HashMap::new();
    for (at, (_, told)) in told.iter().enumerate() {
        let Told::Write { offset, bytes } = told else { continue };
        if at < flushed || cut == Cut::KeepAll {
            patch(&mut blocks, *offset, bytes);
        } else if cut == Cut::Half {
            for (piece, part) in bytes.chunks(BLOCK).enumerate() {
                if dice.one_in(2) {
                    patch(&mut blocks, offset + (piece * BLOCK) as u64, part);
                }
            }
        }
    }
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.set_len(size).context("size the image")?;
    for (block, bytes) in blocks {
        file.write_all_at(&bytes[..], block * BLOCK as u64).context("write the image")?;
    }
    Ok(())
}

/// Runs a program of the system to its end.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test program that sets up devices; nothing of it is in the product"
    )]
    let output =
        std::process::Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A file attached as a loop device and mounted; taken apart again when dropped.
#[derive(Debug)]
pub struct Mounted {
    device: String,
    folder: PathBuf,
}

impl Mounted {
    /// Attaches `file` and mounts the ext4 in it on `folder`, making it first where `format` says so. The mount is
    /// read-write, so that ext4 replays its journal as it does at every boot.
    pub fn mount(file: &Path, folder: &Path, format: bool, direct: bool) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let direct = if direct { "--direct-io=on" } else { "--direct-io=off" };
        let device = run("losetup", &[direct, "--find", "--show", &file.to_string_lossy()])?;
        let mounted = Self { device, folder: folder.to_owned() };
        if format {
            run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &mounted.device])?;
        }
        run("mount", &["-t", "ext4", &mounted.device, &folder.to_string_lossy()])?;
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for (program, argument) in
            [("umount", self.folder.to_string_lossy().into_owned()), ("losetup", format!("--detach={}", self.device))]
        {
            if let Err(error) = run(program, &[&argument]) {
                eprintln!("cannot take the device apart: {error:#}");
            }
        }
    }
}
