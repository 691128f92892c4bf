//! Writes the corpora of the fuzz targets: `cargo run --release -p samara-tests --bin corpus`.

use std::fs;
use std::process::ExitCode;

use samara_tests::fuzz::corpus;

fn main() -> ExitCode {
    match write() {
        Ok(written) => {
            println!("{written} inputs written below {}", corpus::folder().display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the corpora cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes what is missing or changed.
fn write() -> std::io::Result<usize> {
    let mut written = 0;
    for sample in corpus::samples() {
        let folder = corpus::folder().join(sample.target);
        fs::create_dir_all(&folder)?;
        let path = folder.join(&sample.name);
        if fs::read(&path).ok().as_ref() != Some(&sample.bytes) {
            fs::write(&path, &sample.bytes)?;
            written += 1;
        }
    }
    Ok(written)
}
