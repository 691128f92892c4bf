//! Archives that somebody has made to harm, and one that is large: seen from outside.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::network::{Renter, text};
use crate::story::Story;

/// Most memory that a node may have used at any moment, whatever it was given.
const MEMORY: u64 = 256 << 20;

/// The most memory that the node of a folder has used, bytes: of the process that was started with it.
fn peak_memory(renter: &Renter) -> u64 {
    let folder = text(renter.folder());
    let mut peaks = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().map(Result::unwrap) {
        let read =
            |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let arguments = read("cmdline");
        let mut arguments = arguments.split('\0');
        if !arguments.any(|argument| argument == folder) {
            continue;
        }
        let status = read("status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
        peaks.extend(kibibytes.map(|kibibytes| kibibytes << 10));
    }
    assert_eq!(peaks.len(), 1, "one process is the node of {folder}");
    peaks[0]
}

/// Puts five GiB of zeros, packed into five MiB, in the place of a file's bytes: with its true size, or with that of
/// the file.
fn bomb(genuine: &Path, bomb: &Path, is_said: bool) {
    let program = r#"
import struct, sys, zipfile, zlib
source, target, said = sys.argv[1], sys.argv[2], sys.argv[3] == "said"
packer = zlib.compressobj(9, zlib.DEFLATED, -15)
block = packer.compress(bytes(16 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
total, count = 5 << 30, (5 << 30) // (16 << 20)
crc = 0
if said:
    for _ in range(count): crc = zlib.crc32(bytes(16 << 20), crc)
out, directory, raw = open(target, "wb"), b"", open(source, "rb")
entries = zipfile.ZipFile(source).infolist()
for entry in entries:
    raw.seek(entry.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", raw.read(4))
    raw.seek(name_length + extra_length, 1)
    name, place, method, extra = entry.filename.encode(), out.tell(), entry.compress_type, b""
    sizes = (entry.CRC, entry.compress_size, entry.file_size)
    bombed = "__large" in entry.filename and "/files/" in entry.filename
    packed = len(block) * count + 2
    if bombed:
        method, sizes = 8, (crc if said else entry.CRC, packed, total if said else entry.file_size)
        if said:
            extra, sizes = struct.pack("<HHQQ", 1, 16, total, packed), (crc, 0xffffffff, 0xffffffff)
    head = struct.pack("<HHHHH", 45, 0x800, method, 0, 0x21) + struct.pack("<III", *sizes) + struct.pack("<HH", len(name), len(extra))
    out.write(b"PK\x03\x04" + head + name + extra)
    if bombed:
        for _ in range(count): out.write(block)
        out.write(b"\x03\x00")
    else:
        out.write(raw.read(entry.compress_size))
    directory += b"PK\x01\x02\x2d\x03" + head + struct.pack("<HHHII", 0, 0, 0, 0o100644 << 16, place) + name + extra
start = out.tell()
out.write(directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(directory), start, 0))
"#;
    let said = if is_said { "said" } else { "hidden" };
    let run =
        Command::new("python3").args(["-c", program]).args([genuine, bomb]).arg(said).output();
    let run = run.expect("python3 is there");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn a_bomb_of_five_gib_is_refused_within_its_caps() {
    Story::tell(|story| async move {
        let (_, file) = story.archive("whole").await;
        let other = story.shared.renter().await;
        for is_said in [true, false] {
            let path = story.path("bomb.zip");
            bomb(&file, &path, is_said);
            let size = std::fs::metadata(&path).unwrap().len();
            assert!(size < 16 << 20, "{size}");
            let done = other.run(&["restore", text(&path), "--name", "copy"]).await;
            let code = done.last()["code"].as_str().unwrap().to_owned();
            assert_eq!(done.code, 1, "{}", done.last());
            assert!(["archive_bomb", "archive_damaged"].contains(&code.as_str()), "{code}");
            let vaults = other.run(&["vault", "list"]).await.ok();
            assert!(vaults.as_array().unwrap().is_empty());
        }
        let peak = peak_memory(&other);
        assert!(peak < MEMORY, "{peak} bytes");
    });
}

/// Runs a program that knows nothing of Samara on a file, and gives its output.
fn witness(program: &str, arguments: &[&str], file: &Path) -> String {
    let run = Command::new(program).args(arguments).arg(file).output();
    let run = run.unwrap_or_else(|error| panic!("{program} is there: {error}"));
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    said
}

#[test]
fn q02_q03_l20_two_thousand_events_and_five_hundred_files_are_counted_by_others() {
    Story::tell(|story| async move {
        story.ok(&["vault", "create", "many"]).await;
        let many = story.path("many");
        std::fs::create_dir_all(&many).unwrap();
        for round in 0..4u8 {
            for number in 0..500usize {
                let name = match number % 5 {
                    0 => format!("naïve {number}.txt"),
                    1 => format!("日本語-{number}"),
                    2 => format!("{number} 'quoted' & <odd>"),
                    3 => format!(".{number}"),
                    _ => format!("{number}.bin"),
                };
                // One in ten is always empty.
                let length = if number % 10 == 9 { 0 } else { number + usize::from(round) };
                std::fs::write(many.join(name), vec![round + 1; length]).unwrap();
            }
            story.ok(&["put", text(&many), "many"]).await;
        }
        let create = ["backup", "create", "many", "--vault", "many", "--archive"];
        let row = story.ok(&create).await;
        let file = story.path("many.zip");
        story.ok(&["backup", "download", "many", text(&file)]).await;
        assert!(row["events"].as_u64().unwrap() > 1_800, "{row}");
        assert_eq!(row["files"], 500);

        let tested = witness("unzip", &["-tqq"], &file);
        assert_eq!(tested, "");
        let program = r#"
import json, sys, zipfile
names = zipfile.ZipFile(sys.argv[1]).namelist()
count = lambda folder: sum(1 for name in names if name.split("/")[1] == folder)
print(json.dumps([count("events"), count("versions"), count("files"), len(set(names)) == len(names)]))
"#;
        let counted: Value =
            serde_json::from_str(&witness("python3", &["-c", program], &file)).unwrap();
        assert_eq!(counted, json!([row["events"], row["versions"], row["versions"], true]));
        let verified = story.ok(&["backup", "verify", "many"]).await;
        assert_eq!((&verified["sound"], &verified["events"]), (&json!(true), &row["events"]));
    });
}
