//! Seal, encode, rebuild and hash, GB of user data per second on one core, beside memcpy.

use std::hint::black_box;
use std::time::Instant;

use samara_protocol::hash::SlabId;
use samara_protocol::sector::{Outboard, SectorSize};
use samara_protocol::slab::{FrameCipher, Geometry, SlabBuffer, SlabSealer, code_for};

use super::report::Report;

/// Runs the benchmark for one redundancy with columns of 4 MiB.
///
/// # Panics
/// When the shape is not valid.
#[must_use]
pub fn run(data: u8, total: u8, rounds: usize) -> Report {
    let geometry = Geometry::with_column(data, total, SectorSize::MAX).expect("a valid redundancy");
    let mut bench = Coding::new(geometry);
    let mut figures = vec![Vec::new(); STEPS.len()];
    for _ in 0..rounds {
        // One round of each in turn, so that a machine that slows down slows all of them.
        for (step, figures) in STEPS.iter().zip(&mut figures) {
            let start = Instant::now();
            (step.run)(&mut bench);
            figures.push(bench.user_bytes as f64 / 1e9 / start.elapsed().as_secs_f64());
        }
    }
    let mut report = Report::new("coding", rounds);
    let memcpy = figures[0].clone();
    for (step, figures) in STEPS.iter().zip(figures) {
        let ratios: Vec<f64> = figures.iter().zip(&memcpy).map(|(a, b)| a / b).collect();
        report.add(format!("{} {data}/{total}", step.name), "GB/s", figures);
        let mut sorted = ratios;
        sorted.sort_by(f64::total_cmp);
        report.note(format!("{:.3} of memcpy", sorted[sorted.len() / 2]));
    }
    report
}

struct Step {
    name: &'static str,
    run: fn(&mut Coding),
}

/// All steps; memcpy first, because the others are compared with it.
const STEPS: [Step; 6] = [
    Step { name: "memcpy", run: Coding::copy },
    Step { name: "seal", run: Coding::seal },
    Step { name: "encode", run: Coding::encode },
    Step { name: "hash all shards", run: Coding::hash },
    Step { name: "rebuild lost data", run: Coding::rebuild },
    Step { name: "seal, encode and hash", run: Coding::all },
];

struct Coding {
    geometry: Geometry,
    plain: Vec<u8>,
    copy: Vec<u8>,
    frame: Vec<u8>,
    shards: Vec<Vec<u8>>,
    sealer: SlabSealer,
    buffer: SlabBuffer,
    user_bytes: usize,
}

impl Coding {
    fn new(geometry: Geometry) -> Self {
        let column = geometry.column().len();
        let user_bytes = usize::from(geometry.data()) * column;
        let plain: Vec<u8> =
            (0..geometry.capacity()).map(|index| (index.wrapping_mul(31) >> 3) as u8).collect();
        let shards = (0..geometry.total()).map(|shard| vec![shard; column]).collect();
        Self {
            geometry,
            copy: vec![0; plain.len()],
            plain,
            frame: vec![7; geometry.frame() as usize],
            shards,
            sealer: SlabSealer::new(geometry),
            buffer: SlabBuffer::new(),
            user_bytes,
        }
    }

    fn copy(&mut self) {
        self.copy.copy_from_slice(black_box(&self.plain));
        black_box(&self.copy);
    }

    fn seal(&mut self) {
        let cipher = FrameCipher::new(&[5; 32], SlabId([6; 16]), self.geometry);
        for index in 0..self.geometry.frames() {
            cipher.seal(index, &mut self.frame).expect("a frame of the right size");
        }
        black_box(&self.frame);
    }

    fn encode(&mut self) {
        let (data, parity) = self.shards.split_at_mut(usize::from(self.geometry.data()));
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        self.sealer.code().encode(&data, &mut parity).expect("columns of one size");
    }

    fn hash(&mut self) {
        for shard in &self.shards {
            let hashed = Outboard::of(self.geometry.column(), shard);
            black_box(hashed.expect("a sector of the right size"));
        }
    }

    fn rebuild(&mut self) {
        let data = usize::from(self.geometry.data());
        let lost = data.min(usize::from(self.geometry.parity()));
        let mut shards: Vec<Option<Vec<u8>>> = std::mem::take(&mut self.shards)
            .into_iter()
            .enumerate()
            .map(|(index, shard)| (index >= lost).then_some(shard))
            .collect();
        let wanted: Vec<usize> = (0..lost).collect();
        code_for(&self.geometry).reconstruct(&mut shards, &wanted).expect("enough shards");
        self.shards = shards.into_iter().flatten().collect();
    }

    fn all(&mut self) {
        let sealed =
            self.sealer.seal_into(&[5; 32], SlabId([6; 16]), &self.plain, &mut self.buffer);
        black_box(sealed.expect("plaintext within the capacity"));
    }
}
