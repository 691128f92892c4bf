use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tempfile::TempDir;

use super::{Disk, Luck, Shim, read_log};

/// A folder that programs change under the shim.
struct Bench {
    root: TempDir,
    shim: Shim,
    disk: Disk,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let shim = Shim::build(root.path()).unwrap();
        let folder = root.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("old"), [b'o'; 20_000]).unwrap();
        let disk = Disk::read(&folder).unwrap();
        Self { root, shim, disk }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().canonicalize().unwrap().join("folder")
    }

    fn run(&self, line: &str) -> &Self {
        let mut words = line.split(' ');
        let program = Path::new(words.next().unwrap());
        let log = self.root.path().join("log");
        let mut command = self.shim.command(program, &self.folder(), &log);
        let done = command.args(words).current_dir(self.folder()).output().unwrap();
        assert!(done.status.success(), "{line}: {done:?}");
        self
    }

    /// The folder after a loss of power: names with lengths.
    fn after(&self, luck: Luck, seed: u64) -> Vec<(String, Vec<u8>)> {
        let mut disk = self.disk.clone();
        read_log(&self.root.path().join("log"), |record| disk.apply(record)).unwrap();
        disk.lose_power(luck, &mut ChaCha8Rng::seed_from_u64(seed));
        let image = tempfile::tempdir().unwrap();
        disk.write(&image.path().join("image")).unwrap();
        files(&image.path().join("image"), "")
    }

    fn names(&self, luck: Luck) -> Vec<String> {
        self.after(luck, 0).into_iter().map(|(name, _)| name).collect()
    }
}

fn files(folder: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            found.extend(files(&path, &format!("{name}/")));
        } else {
            found.push((name, std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn everything_is_what_the_process_sees() {
    let bench = Bench::new();
    bench
        .run("dd if=/dev/zero of=a bs=5000 count=3")
        .run("mkdir sub")
        .run("mv a sub/b")
        .run("ln sub/b c")
        .run("rm old")
        .run("dd if=/dev/urandom of=sub/b bs=100 seek=7 count=1 conv=notrunc")
        .run("truncate -s 9000 c")
        .run("dd if=/dev/urandom of=d oflag=append bs=10 count=3");
    assert_eq!(bench.after(Luck::Everything, 0), files(&bench.folder(), ""));
}

#[test]
fn a_name_needs_a_sync_of_its_folder_and_bytes_one_of_their_file() {
    let bench = Bench::new();
    bench.run("dd if=/dev/zero of=a bs=100 count=1 conv=fsync");
    assert_eq!(bench.names(Luck::Nothing), ["old"], "its folder was not synced");
    bench.run("sync .");
    assert_eq!(bench.names(Luck::Nothing), ["a", "old"]);
    assert_eq!(bench.after(Luck::Nothing, 0)[0].1, vec![0; 100]);

    bench.run("dd if=/dev/zero of=b bs=100 count=1").run("sync .");
    let after = bench.after(Luck::Nothing, 0);
    assert_eq!(after[1], ("b".to_owned(), Vec::new()), "it was not synced itself");

    bench.run("mkdir sub").run("mv a sub/a").run("sync sub");
    assert_eq!(bench.names(Luck::Nothing), ["b", "old"], "the folder it is in has no name");
    bench.run("sync .");
    assert_eq!(bench.names(Luck::Nothing), ["b", "old", "sub/a"]);

    bench.run("rm old").run("mv b c");
    assert_eq!(bench.names(Luck::Nothing), ["b", "old", "sub/a"]);
}

#[test]
fn pages_and_names_that_were_not_synced_are_there_or_not() {
    let bench = Bench::new();
    bench.run("dd if=/dev/zero of=old bs=20000 count=1 conv=notrunc").run("mv old new");
    let (mut names, mut mixed) = (std::collections::BTreeSet::new(), 0);
    for seed in 0..32 {
        let after = bench.after(Luck::Some, seed);
        let [(name, bytes)] = after.as_slice() else { panic!("one file, by either name") };
        names.insert(name.clone());
        assert_eq!(bytes.len(), 20_000);
        let pages = bytes.chunks(4_096).map(|page| {
            assert!(page.iter().all(|byte| *byte == page[0]), "a page is torn");
            page[0]
        });
        let pages: std::collections::BTreeSet<u8> = pages.collect();
        mixed += usize::from(pages.len() == 2);
    }
    assert_eq!(names.len(), 2);
    assert!(mixed > 16, "{mixed}");
}

#[test]
fn what_cannot_be_noted_ends_the_process() {
    let bench = Bench::new();
    let log = bench.root.path().join("log");
    let mut command = bench.shim.command(Path::new("ln"), &bench.folder(), &log);
    let done = command.args(["-s", "old", "link"]).current_dir(bench.folder()).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && said.contains(super::COMPLAINT), "{said}");
}
