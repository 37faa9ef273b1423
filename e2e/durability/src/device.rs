//! A block device that remembers: a file in memory, served through FUSE, which logs every write and every flush with its
//! time. A loop device on top of it turns a file system's barriers into flushes of this file.
//!
//! Used by the power-cut proof. Invariant: a write is in the log before it is acknowledged, a flush after everything it
//! covers; so the log up to any instant says what a drive may have held at that instant, and what it must have held.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use fuser::{
    FileAttr, FileType, Filesystem, KernelConfig, MountOption, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request,
};

/// The name of the one file.
pub const FILE: &str = "disk";
/// The granularity in which a cut keeps and loses.
pub const BLOCK: usize = 4096;
const INODE: u64 = 2;
const TTL: Duration = Duration::from_secs(3600);

/// Something the device was told.
#[derive(Debug)]
pub enum Told {
    /// Bytes at an offset.
    Write {
        /// Where.
        offset: u64,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// Everything before this is on the platter.
    Flush,
}

/// All that the device was told, with the time (CLOCK_MONOTONIC, ns) at which it had been done.
#[derive(Debug, Default)]
pub struct Log {
    /// In order.
    pub told: Vec<(u64, Told)>,
    blocks: HashMap<u64, Box<[u8; BLOCK]>>,
}

/// Nanoseconds on the clock that writer, device and verifier share.
pub fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Writes into blocks.
pub fn patch(blocks: &mut HashMap<u64, Box<[u8; BLOCK]>>, offset: u64, bytes: &[u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let position = offset as usize + at;
        let (block, inside) = ((position / BLOCK) as u64, position % BLOCK);
        let length = (BLOCK - inside).min(bytes.len() - at);
        let target = blocks.entry(block).or_insert_with(|| Box::new([0; BLOCK]));
        target[inside..inside + length].copy_from_slice(&bytes[at..at + length]);
        at += length;
    }
}

impl Log {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        patch(&mut self.blocks, offset, bytes);
        self.told.push((now_ns(), Told::Write { offset, bytes: bytes.into() }));
    }

    fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut at = 0;
        while at < length {
            let position = offset as usize + at;
            let (block, inside) = ((position / BLOCK) as u64, position % BLOCK);
            let part = (BLOCK - inside).min(length - at);
            if let Some(block) = self.blocks.get(&block) {
                bytes[at..at + part].copy_from_slice(&block[inside..inside + part]);
            }
            at += part;
        }
        bytes
    }
}

/// A device that is mounted until this is dropped.
pub struct Device {
    log: Arc<Mutex<Log>>,
    session: fuser::BackgroundSession,
}

impl Device {
    /// Serves a device of `size` bytes as `folder`/[`FILE`].
    pub fn mount(folder: &Path, size: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let log = Arc::new(Mutex::new(Log::default()));
        let options = [MountOption::FSName("power-cut".into()), MountOption::DefaultPermissions];
        let files = Files { log: log.clone(), size };
        let session = fuser::spawn_mount2(files, folder, &options)
            .with_context(|| format!("mount a FUSE file system on {}", folder.display()))?;
        Ok(Self { log, session })
    }

    /// The log so far.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the file system off. Not waited for: another process's mount namespace may hold on to it for as long as it likes.
    pub fn unmount(self) -> Log {
        drop(self.session);
        std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Files {
    log: Arc<Mutex<Log>>,
    size: u64,
}

impl Files {
    fn attributes(&self, inode: u64) -> FileAttr {
        let root = inode == fuser::FUSE_ROOT_ID;
        FileAttr {
            ino: inode,
            size: if root { 0 } else { self.size },
            blocks: self.size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if root { FileType::Directory } else { FileType::RegularFile },
            perm: if root { 0o700 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK as u32,
            flags: 0,
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filesystem for Files {
    fn init(&mut self, _request: &Request<'_>, config: &mut KernelConfig) -> Result<(), libc::c_int> {
        // Whatever size the kernel likes best will do.
        let _size = config.set_max_write(1 << 20);
        Ok(())
    }

    fn lookup(&mut self, _request: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        if parent == fuser::FUSE_ROOT_ID && name == FILE {
            reply.entry(&TTL, &self.attributes(INODE), 0);
        } else {
            reply.error(libc::ENOENT);
        }
    }

    fn getattr(&mut self, _request: &Request<'_>, inode: u64, _handle: Option<u64>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(inode));
    }

    fn open(&mut self, _request: &Request<'_>, _inode: u64, _flags: i32, reply: ReplyOpen) {
        reply.opened(0, fuser::consts::FOPEN_DIRECT_IO);
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        _inode: u64,
        _handle: u64,
        offset: i64,
        size: u32,
        _flags: i32,
        _owner: Option<u64>,
        reply: ReplyData,
    ) {
        let offset = offset.unsigned_abs();
        let length = u64::from(size).min(self.size.saturating_sub(offset));
        let bytes = self.log().read(offset, length as usize);
        reply.data(&bytes);
    }

    fn write(
        &mut self,
        _request: &Request<'_>,
        _inode: u64,
        _handle: u64,
        offset: i64,
        data: &[u8],
        _write_flags: u32,
        _flags: i32,
        _owner: Option<u64>,
        reply: ReplyWrite,
    ) {
        self.log().write(offset.unsigned_abs(), data);
        reply.written(data.len() as u32);
    }

    fn fsync(&mut self, _request: &Request<'_>, _inode: u64, _handle: u64, _data_only: bool, reply: ReplyEmpty) {
        self.log().told.push((now_ns(), Told::Flush));
        reply.ok();
    }

    fn flush(&mut self, _request: &Request<'_>, _inode: u64, _handle: u64, _owner: u64, reply: ReplyEmpty) {
        reply.ok();
    }
}
