//! A disk in memory that behaves as badly as a real one may: the power can go at any operation, and then whatever was not
//! synced is kept, lost, torn at 512 bytes or reordered, by a seed; operations fail on demand; space is limited.
//!
//! Used by tests, here and above. Everything it does follows from its seeds and the order of the calls, so that a failure
//! can be replayed. Invariant: what was synced before the cut is there after it, and nothing else is promised.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Access, Disk, File};

pub use super::dice::Dice;

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this operation and all later ones fail, and what was not synced is in doubt.
    PowerOff,
    /// The operation fails with an I/O error. A failed sync drops what it should have written, and the next one succeeds
    /// without having written it, as Linux does.
    Broken,
    /// The operation fails for want of space.
    NoSpace,
}

/// What becomes of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Everything sent is kept: a drive with power-loss protection.
    KeepAll,
    /// Nothing that was not synced is kept.
    DropAll,
    /// Each piece is kept, lost or torn by chance.
    Random,
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct FaultyDisk(Arc<Mutex<World>>);

#[derive(Debug)]
struct World {
    files: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    capacity: u64,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    on: bool,
    dice: Dice,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
}

#[derive(Debug, Clone)]
enum Write {
    Bytes { offset: usize, bytes: Vec<u8> },
    Empty,
}

#[derive(Debug, Clone)]
struct NameChange {
    removed: Option<PathBuf>,
    added: Option<PathBuf>,
    inode: u64,
}

impl NameChange {
    fn touches(&self, folder: &Path) -> bool {
        [&self.removed, &self.added].into_iter().flatten().any(|path| path.parent() == Some(folder))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(removed) = &self.removed
            && names.get(removed) == Some(&self.inode)
        {
            names.remove(removed);
        }
        if let Some(added) = &self.added {
            names.insert(added.clone(), self.inode);
        }
    }
}

fn patch(target: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[offset..end].copy_from_slice(bytes);
}

impl Write {
    fn apply(&self, target: &mut Vec<u8>) {
        match self {
            Self::Bytes { offset, bytes } => patch(target, *offset, bytes),
            Self::Empty => target.clear(),
        }
    }

    /// Applies some of its sectors.
    fn tear(&self, target: &mut Vec<u8>, dice: &mut Dice) {
        let Self::Bytes { offset, bytes } = self else { return self.apply(target) };
        let mut at = 0;
        while at < bytes.len() {
            let end = ((*offset + at) / SECTOR + 1) * SECTOR - *offset;
            let end = end.min(bytes.len());
            if dice.one_in(2) {
                patch(target, *offset + at, &bytes[at..end]);
            }
            at = end;
        }
    }
}

impl Inode {
    fn settle(&mut self) {
        for write in self.pending.drain(..) {
            write.apply(&mut self.durable);
        }
    }

    fn after(&self, cut: Cut, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let mut pending: Vec<&Write> = self.pending.iter().collect();
        match cut {
            Cut::DropAll => return bytes,
            Cut::KeepAll => {}
            Cut::Random => {
                for at in (1..pending.len()).rev() {
                    pending.swap(at, dice.below(at as u64 + 1) as usize);
                }
            }
        }
        for write in pending {
            match if cut == Cut::KeepAll { 0 } else { dice.below(3) } {
                0 => write.apply(&mut bytes),
                1 => write.tear(&mut bytes, dice),
                _ => {}
            }
        }
        bytes
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

fn absent() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl World {
    /// Counts an operation and says what goes wrong with it.
    fn step(&mut self) -> io::Result<Option<Fault>> {
        if !self.on {
            return Err(power_is_off());
        }
        self.operations += 1;
        let fault = self.faults.remove(&self.operations);
        if fault == Some(Fault::PowerOff) {
            self.on = false;
        }
        Ok(fault)
    }

    fn used(&self) -> u64 {
        self.files.values().map(|file| file.bytes.len() as u64).sum()
    }

    fn rename_now(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
        self.forget_nameless();
    }

    /// The space of files that have no name any more is free again.
    fn forget_nameless(&mut self) {
        let mut live: BTreeSet<u64> = self.names.values().chain(self.durable_names.values()).copied().collect();
        live.extend(self.pending_names.iter().map(|change| change.inode));
        self.files.retain(|inode, _| live.contains(inode));
    }
}

fn failed(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        None => Ok(()),
        Some(Fault::PowerOff) => Err(power_is_off()),
        Some(Fault::Broken) => Err(io::Error::other("the disk is broken")),
        Some(Fault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
    }
}

impl FaultyDisk {
    /// An empty disk with room for `capacity` bytes. The seed decides what a failed sync leaves behind.
    pub fn new(seed: u64, capacity: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            files: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            locks: BTreeSet::new(),
            capacity,
            operations: 0,
            faults: BTreeMap::new(),
            on: true,
            dice: Dice::new(seed),
        })))
    }

    /// How many operations that change something there have been.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Lets the operation number `at` (counted from the disk's first) go wrong.
    pub fn fail(&self, at: u64, fault: Fault) {
        self.0.lock().faults.insert(at, fault);
    }

    /// Lets nothing more go wrong.
    pub fn heal(&self) {
        self.0.lock().faults.clear();
    }

    /// Changes how much fits onto the disk.
    pub fn set_capacity(&self, capacity: u64) {
        self.0.lock().capacity = capacity;
    }

    /// The disk as the next boot finds it.
    pub fn cut_power(&self, cut: Cut, seed: u64) -> Self {
        let world = self.0.lock();
        let mut dice = Dice::new(seed);
        let mut names = world.durable_names.clone();
        // A journaling file system keeps the order of names; half of the time we are worse than that.
        let ordered = dice.one_in(2);
        let kept = dice.below(world.pending_names.len() as u64 + 1);
        for (at, change) in world.pending_names.iter().enumerate() {
            let keep = match cut {
                Cut::KeepAll => true,
                Cut::DropAll => false,
                Cut::Random if ordered => (at as u64) < kept,
                Cut::Random => dice.one_in(2),
            };
            if keep {
                change.apply(&mut names);
            }
        }
        let fresh = Self::new(dice.roll(), world.capacity);
        {
            let mut next = fresh.0.lock();
            for (path, inode) in names {
                let Some(file) = world.files.get(&inode) else { continue };
                let bytes = file.after(cut, &mut dice);
                next.files.entry(inode).or_insert_with(|| Inode { durable: bytes.clone(), bytes, pending: Vec::new() });
                next.names.insert(path.clone(), inode);
                next.durable_names.insert(path, inode);
            }
            next.next_inode = world.next_inode;
        }
        fresh
    }

    /// Only the process dies: the disk goes on, with everything that was written and not synced still in its cache.
    pub fn kill_process(&self) {
        let mut world = self.0.lock();
        world.on = true;
        world.faults.clear();
        world.locks.clear();
    }

    /// Changes one byte of a file, on disk and in the cache.
    pub fn flip(&self, path: &Path, offset: usize, mask: u8) {
        let mut world = self.0.lock();
        let Some(inode) = world.names.get(path).copied() else { return };
        if let Some(file) = world.files.get_mut(&inode) {
            for bytes in [&mut file.bytes, &mut file.durable] {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte ^= mask;
                }
            }
        }
    }

    /// All files, with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let world = self.0.lock();
        let length = |inode| world.files.get(inode).map_or(0, |file| file.bytes.len());
        world.names.iter().map(|(path, inode)| (path.clone(), length(inode))).collect()
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        if self.0.lock().on { Ok(()) } else { Err(power_is_off()) }
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let mut world = self.0.lock();
        if !world.on {
            return Err(power_is_off());
        }
        let existing = world.names.get(path).copied();
        let inode = match (access, existing) {
            (Access::Read | Access::Write, found) => found.ok_or_else(absent)?,
            (Access::Create, Some(inode)) => {
                failed(world.step()?)?;
                if let Some(file) = world.files.get_mut(&inode) {
                    file.bytes.clear();
                    file.pending.push(Write::Empty);
                }
                inode
            }
            (Access::Create, None) => {
                failed(world.step()?)?;
                let inode = world.next_inode;
                world.next_inode += 1;
                world.files.insert(inode, Inode::default());
                world.rename_now(NameChange { removed: None, added: Some(path.to_owned()), inode });
                inode
            }
        };
        Ok(Box::new(FaultyFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        failed(world.step()?)?;
        let inode = world.names.get(from).copied().ok_or_else(absent)?;
        world.rename_now(NameChange { removed: Some(from.to_owned()), added: Some(to.to_owned()), inode });
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        failed(world.step()?)?;
        let inode = world.names.get(path).copied().ok_or_else(absent)?;
        world.rename_now(NameChange { removed: Some(path.to_owned()), added: None, inode });
        Ok(())
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        failed(world.step()?)?;
        let (synced, rest): (Vec<_>, Vec<_>) = world.pending_names.drain(..).partition(|change| change.touches(path));
        for change in synced {
            change.apply(&mut world.durable_names);
        }
        world.pending_names = rest;
        world.forget_nameless();
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let world = self.0.lock();
        if !world.on {
            return Err(power_is_off());
        }
        let inside = world.names.keys().filter(|name| name.parent() == Some(path));
        Ok(inside.filter_map(|name| name.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let world = self.0.lock();
        Ok(world.capacity.saturating_sub(world.used()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        if !self.0.lock().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock { disk: self.clone(), path: path.to_owned() }))
    }
}

struct Lock {
    disk: FaultyDisk,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.0.lock().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    inode: u64,
}

impl File for FaultyFile {
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.disk.0.lock();
        if !world.on {
            return Err(power_is_off());
        }
        let file = world.files.get(&self.inode).ok_or_else(absent)?;
        let rest = file.bytes.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.0.lock();
        let fault = world.step()?;
        let free = world.capacity.saturating_sub(world.used());
        let mut dice = world.dice.clone();
        let file = world.files.get_mut(&self.inode).ok_or_else(absent)?;
        let offset = offset as usize;
        let grows = (offset + bytes.len()).saturating_sub(file.bytes.len()) as u64;
        if grows > free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let write = Write::Bytes { offset, bytes: bytes.to_vec() };
        match fault {
            None | Some(Fault::PowerOff) => {
                write.apply(&mut file.bytes);
                file.pending.push(write);
            }
            // A failing write may have got somewhere: some of its sectors are in the cache, and will be on disk.
            Some(Fault::Broken | Fault::NoSpace) => {
                let mut torn = file.bytes.clone();
                write.tear(&mut torn, &mut dice);
                file.pending.push(Write::Bytes { offset: 0, bytes: torn.clone() });
                file.bytes = torn;
            }
        }
        world.dice = dice;
        failed(fault)
    }

    fn fdatasync(&self) -> io::Result<()> {
        let mut world = self.disk.0.lock();
        let fault = world.step()?;
        let mut dice = world.dice.clone();
        let file = world.files.get_mut(&self.inode).ok_or_else(absent)?;
        match fault {
            None => file.settle(),
            Some(Fault::PowerOff) => {}
            Some(Fault::Broken | Fault::NoSpace) => {
                file.durable = file.after(Cut::Random, &mut dice);
                file.pending.clear();
            }
        }
        world.dice = dice;
        failed(fault)
    }

    fn length(&self) -> io::Result<u64> {
        let world = self.disk.0.lock();
        Ok(world.files.get(&self.inode).ok_or_else(absent)?.bytes.len() as u64)
    }
}
