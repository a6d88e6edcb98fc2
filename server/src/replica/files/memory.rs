//! [`Files`] in memory, for the simulator: durable and volatile parts, crashes, faults.
//!
//! A file has the bytes that a running process sees and, apart, the bytes that the disk holds for
//! sure; a directory has both for its names. [`MemoryFiles::crash`] keeps only what was synced,
//! plus, sector by sector as the caller's dice fall, some of what was not: that is how a power
//! loss tears a write. Handles from before a crash are dead: a task that outlives its simulated
//! member cannot write into the next life.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{File, Files};

/// Writes survive a power loss or not in units of this size.
const SECTOR: usize = 512;

/// A fault to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next write fails with "no space left on device".
    WriteFails,
    /// The next sync fails, and as in a kernel what it should have written counts as written from
    /// then on: no later sync makes it durable, unless it is written again.
    SyncFails,
    /// The process is killed on its way to the next sync: the sync fails, and what was written
    /// waits for the next one, which a later process may ask for.
    KilledBeforeSync,
}

/// A file system in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryFiles(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    /// Names as a running process sees them.
    names: BTreeMap<PathBuf, Node>,
    /// Names as they would be found after a crash.
    durable_names: BTreeMap<PathBuf, Node>,
    life: u64,
    /// Each with the operations of its kind until it happens.
    faults: Vec<(u64, Fault)>,
    syncs: u64,
}

#[derive(Clone)]
enum Node {
    Directory,
    File(Arc<Mutex<Content>>),
}

#[derive(Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Byte ranges written since the last sync.
    dirty: Vec<(usize, usize)>,
    /// Byte ranges that a failed sync has left behind: seen, perhaps on the disk, never synced.
    failed: Vec<(usize, usize)>,
}

impl MemoryFiles {
    /// An empty file system.
    pub fn new() -> MemoryFiles {
        MemoryFiles::default()
    }

    /// The power goes: every file and directory falls back to what was synced. Each unsynced sector
    /// of a written range survives if `survives()` says so, so a write may be torn anywhere.
    /// Handles opened before are dead.
    pub fn crash(&self, mut survives: impl FnMut() -> bool) {
        let mut disk = self.disk();
        disk.life += 1;
        disk.names = disk.durable_names.clone();
        for node in disk.names.values() {
            let Node::File(content) = node else { continue };
            let mut content = lock(content);
            let synced = content.durable.len();
            let mut unsynced = std::mem::take(&mut content.failed);
            unsynced.append(&mut content.dirty);
            for (from, to) in unsynced {
                let mut start = from;
                while start < to {
                    let end = ((start / SECTOR + 1) * SECTOR).min(to);
                    if survives() {
                        if content.durable.len() < end {
                            content.durable.resize(end, 0);
                        }
                        let (seen, durable) = content.both();
                        durable[start..end].copy_from_slice(&seen[start..end]);
                    }
                    start = end;
                }
            }
            // A file's length follows its surviving sectors, in whole pages as file systems do.
            if content.durable.len() > synced {
                let pages = content.durable.len().next_multiple_of(4096).min(content.seen.len());
                content.durable.resize(pages, 0);
            }
            content.seen = content.durable.clone();
        }
    }

    /// Makes the next operation of the fault's kind fail, once.
    pub fn inject(&self, fault: Fault) {
        self.inject_at(1, fault);
    }

    /// Makes the `nth` operation of the fault's kind from now fail, once.
    pub fn inject_at(&self, nth: u64, fault: Fault) {
        self.disk().faults.push((nth, fault));
    }

    /// How many syncs of files succeeded: what a test of group commit counts.
    pub fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    /// A file's bytes as a running process sees them, for tests that look at or damage them.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        match self.disk().names.get(path) {
            Some(Node::File(content)) => Some(lock(content).seen.clone()),
            _ => None,
        }
    }

    /// Replaces a file's bytes, durably, behind everybody's back: damage for tests.
    pub fn overwrite(&self, path: &Path, bytes: Vec<u8>) {
        let content = Content { seen: bytes.clone(), durable: bytes, ..Content::default() };
        let node = Node::File(Arc::new(Mutex::new(content)));
        let mut disk = self.disk();
        disk.names.insert(path.to_path_buf(), node.clone());
        disk.durable_names.insert(path.to_path_buf(), node);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.0)
    }

    fn handle(&self, disk: &Disk, content: &Arc<Mutex<Content>>) -> Arc<dyn File> {
        Arc::new(MemoryFile { files: self.clone(), content: content.clone(), life: disk.life })
    }
}

impl Content {
    fn both(&mut self) -> (&[u8], &mut [u8]) {
        (&self.seen, &mut self.durable)
    }
}

impl Disk {
    fn take_fault(&mut self, fault: Fault) -> bool {
        let Some(index) = self.faults.iter().position(|(_, waiting)| *waiting == fault) else { return false };
        self.faults[index].0 -= 1;
        let is_due = self.faults[index].0 == 0;
        if is_due {
            self.faults.remove(index);
        }
        is_due
    }

    fn file(&self, path: &Path) -> io::Result<&Arc<Mutex<Content>>> {
        match self.names.get(path) {
            Some(Node::File(content)) => Ok(content),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn need_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent().map(|parent| self.names.get(parent)) {
            Some(Some(Node::Directory)) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Files for MemoryFiles {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        for ancestor in path.ancestors() {
            match disk.names.get(ancestor) {
                Some(Node::Directory) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    disk.names.insert(ancestor.to_path_buf(), Node::Directory);
                }
            }
        }
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        if !matches!(disk.names.get(directory), Some(Node::Directory)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = disk.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        disk.need_parent(path)?;
        if disk.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if disk.take_fault(Fault::WriteFails) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = Arc::new(Mutex::new(Content::default()));
        disk.names.insert(path.to_path_buf(), Node::File(content.clone()));
        Ok(self.handle(&disk, &content))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let disk = self.disk();
        let content = disk.file(path)?;
        Ok(self.handle(&disk, content))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.need_parent(to)?;
        let node = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_path_buf(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.file(path)?;
        disk.names.remove(path);
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.disk().names.retain(|name, _| !name.starts_with(path));
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.take_fault(Fault::SyncFails) || disk.take_fault(Fault::KilledBeforeSync) {
            return Err(io::Error::other("injected: the directory was not synced"));
        }
        if !matches!(disk.names.get(path), Some(Node::Directory)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = |name: &Path| name == path || name.parent() == Some(path);
        disk.durable_names.retain(|name, _| !inside(name));
        let current: Vec<_> =
            disk.names.iter().filter(|(name, _)| inside(name)).map(|(n, k)| (n.clone(), k.clone())).collect();
        disk.durable_names.extend(current);
        // What leads to a synced directory is taken as durable: our directories are made once.
        for ancestor in path.ancestors().skip(1) {
            disk.durable_names.insert(ancestor.to_path_buf(), Node::Directory);
        }
        Ok(())
    }
}

struct MemoryFile {
    files: MemoryFiles,
    content: Arc<Mutex<Content>>,
    life: u64,
}

impl MemoryFile {
    fn alive(&self, disk: &Disk) -> io::Result<()> {
        if disk.life == self.life {
            return Ok(());
        }
        Err(io::Error::other("this handle is from before a simulated crash"))
    }
}

impl File for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        self.alive(&self.files.disk())?;
        Ok(lock(&self.content).seen.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.alive(&self.files.disk())?;
        let content = lock(&self.content);
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(content.seen.len());
        let count = buffer.len().min(content.seen.len() - offset);
        buffer[..count].copy_from_slice(&content.seen[offset..offset + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.files.disk();
        self.alive(&disk)?;
        if disk.take_fault(Fault::WriteFails) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut content = lock(&self.content);
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = offset + bytes.len();
        if content.seen.len() < end {
            content.seen.resize(end, 0);
        }
        content.seen[offset..end].copy_from_slice(bytes);
        content.dirty.push((offset, end));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.files.disk();
        self.alive(&disk)?;
        let mut content = lock(&self.content);
        let is_killed = disk.take_fault(Fault::KilledBeforeSync);
        if disk.take_fault(Fault::SyncFails) {
            let lost = std::mem::take(&mut content.dirty);
            content.failed.extend(lost);
            return Err(io::Error::other("injected: the file was not synced"));
        }
        if is_killed {
            return Err(io::Error::other("injected: killed before the file was synced"));
        }
        disk.syncs += 1;
        let length = content.seen.len();
        content.durable.resize(length, 0);
        for (from, to) in std::mem::take(&mut content.dirty) {
            let (seen, durable) = content.both();
            durable[from..to].copy_from_slice(&seen[from..to]);
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_file() -> (MemoryFiles, Arc<dyn File>) {
        let files = MemoryFiles::new();
        files.create_directory(Path::new("/d")).expect("a directory");
        let file = files.create(Path::new("/d/f")).expect("a file");
        (files, file)
    }

    #[test]
    fn a_crash_forgets_what_was_not_synced() {
        let (files, file) = one_file();
        file.write_at(0, b"kept").expect("write");
        file.sync().expect("sync");
        files.sync_directory(Path::new("/d")).expect("sync");
        file.write_at(4, b"lost").expect("write");
        files.crash(|| false);
        assert_eq!(files.contents(Path::new("/d/f")).as_deref(), Some(&b"kept"[..]));
        assert!(file.write_at(0, b"zombie").is_err());
    }

    #[test]
    fn a_crash_forgets_a_name_whose_directory_was_not_synced() {
        let (files, file) = one_file();
        files.sync_directory(Path::new("/")).expect("sync");
        file.write_at(0, b"x").expect("write");
        file.sync().expect("sync");
        files.crash(|| true);
        assert_eq!(files.contents(Path::new("/d/f")), None);
    }

    #[test]
    fn a_crash_tears_a_write_by_sectors() {
        let (files, file) = one_file();
        files.sync_directory(Path::new("/d")).expect("sync");
        file.write_at(0, &[7; 1536]).expect("write");
        let mut dice = [true, false, true].into_iter();
        files.crash(|| dice.next().expect("three sectors"));
        let bytes = files.contents(Path::new("/d/f")).expect("the file");
        assert!(bytes[..512].iter().all(|b| *b == 7));
        assert!(bytes[512..1024].iter().all(|b| *b == 0));
        assert!(bytes[1024..1536].iter().all(|b| *b == 7));
    }

    #[test]
    fn a_failed_sync_keeps_nothing_and_a_later_one_only_what_is_written_again() {
        let (files, file) = one_file();
        files.sync_directory(Path::new("/d")).expect("sync");
        file.write_at(0, b"xy").expect("write");
        files.inject(Fault::SyncFails);
        assert!(file.sync().is_err());
        file.write_at(0, b"x").expect("write");
        file.sync().expect("fails once");
        files.crash(|| false);
        assert_eq!(files.contents(Path::new("/d/f")).as_deref(), Some(&b"x\0"[..]));
    }

    #[test]
    fn what_a_killed_process_has_written_is_there_until_the_power_goes_and_durable_once_synced() {
        for is_synced in [false, true] {
            let (files, file) = one_file();
            files.sync_directory(Path::new("/d")).expect("sync");
            file.write_at(0, b"x").expect("write");
            files.inject(Fault::KilledBeforeSync);
            assert!(file.sync().is_err());
            let next = files.open(Path::new("/d/f")).expect("there");
            assert_eq!(files.contents(Path::new("/d/f")).as_deref(), Some(&b"x"[..]));
            if is_synced {
                next.sync().expect("sync");
            }
            files.crash(|| false);
            let kept: &[u8] = if is_synced { b"x" } else { b"" };
            assert_eq!(files.contents(Path::new("/d/f")).as_deref(), Some(kept));
        }
    }

    #[test]
    fn what_was_read_of_a_replaced_file_is_what_a_power_loss_leaves() {
        let (files, _) = one_file();
        let path = Path::new("/d/small");
        crate::replica::files::replace_whole(&files, path, b"old").expect("durable");
        // The file's sync is the first, its directory's the second.
        files.inject_at(2, Fault::KilledBeforeSync);
        assert!(crate::replica::files::replace_whole(&files, path, b"new").is_err());
        let read = crate::replica::files::read_whole(&files, path).expect("whole");
        files.crash(|| false);
        assert_eq!(files.contents(path), Some(read));
    }
}
