//! Reed-Solomon coding over columns.
//!
//! The code is the common one over GF(2^8) with polynomial 0x11D: a Vandermonde matrix times the inverse
//! of its top square, so that the first k shards are the data themselves. Each byte of a parity shard
//! depends on the k data bytes at the same place only; so any range of the columns codes and rebuilds
//! like a whole one. Which kernel computes it is private to this module: all give the same bytes.

use std::fmt;

use super::geometry::Geometry;

/// Bytes of each column coded at a time, so that one piece of all shards stays in the cache.
const PIECE: usize = 32 << 10;

/// Why shards are not coded or rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErasureError {
    /// Another number of shards than the geometry has.
    #[error("{actual} shards where the code has {expected}")]
    Count {
        /// Shards needed.
        expected: usize,
        /// Shards given.
        actual: usize,
    },
    /// Shards of different lengths, or of none.
    #[error("shard {shard} has {actual} bytes where the others have {expected}")]
    Length {
        /// The first that differs.
        shard: usize,
        /// Length of the first shard, at least 1.
        expected: usize,
        /// Its length.
        actual: usize,
    },
    /// Not enough shards to rebuild from.
    #[error("{present} shards are present and {needed} are needed")]
    TooFew {
        /// Shards at hand.
        present: usize,
        /// Shards needed, k.
        needed: usize,
    },
    /// A shard that the slab does not have is wanted.
    #[error("shard {shard} is wanted of {total}")]
    Wanted {
        /// The shard.
        shard: usize,
        /// Shards of the slab, n.
        total: usize,
    },
    /// A kernel refused what was checked before: an error in the kernel.
    #[error("the erasure kernel failed: {0}")]
    Kernel(String),
}

/// A k-of-n code for one pair of k and n.
pub trait ErasureCode: fmt::Debug + Send + Sync {
    /// Data shards, k.
    fn data(&self) -> usize;

    /// Parity shards, n - k.
    fn parity(&self) -> usize;

    /// Computes the parity shards over the data shards; all of one length.
    ///
    /// # Errors
    /// [`ErasureError::Count`] and [`ErasureError::Length`].
    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), ErasureError>;

    /// Fills the `wanted` empty places of `shards`, the same range of any k or more of the n columns.
    ///
    /// Places that are neither present nor wanted stay empty.
    ///
    /// # Errors
    /// [`ErasureError`] when the shards do not fit the code or are too few; `shards` then hold what
    /// they held.
    fn reconstruct(
        &self,
        shards: &mut [Option<Vec<u8>>],
        wanted: &[usize],
    ) -> Result<(), ErasureError>;
}

/// The kernel this machine runs for a geometry.
#[must_use]
pub fn code_for(geometry: &Geometry) -> Box<dyn ErasureCode> {
    match DispatchCode::new(geometry) {
        Some(code) => Box::new(code),
        None => Box::new(PortableCode::new(geometry)),
    }
}

/// Computes the n-k parity columns, or the same range of all of them.
///
/// # Errors
/// As [`ErasureCode::encode`].
pub fn encode(
    geometry: &Geometry,
    data: &[&[u8]],
    parity: &mut [&mut [u8]],
) -> Result<(), ErasureError> {
    code_for(geometry).encode(data, parity)
}

/// Rebuilds wanted columns, or the same range of them, from any k of the n.
///
/// # Errors
/// As [`ErasureCode::reconstruct`].
pub fn reconstruct(
    geometry: &Geometry,
    shards: &mut [Option<Vec<u8>>],
    wanted: &[usize],
) -> Result<(), ErasureError> {
    code_for(geometry).reconstruct(shards, wanted)
}

/// `sia_reed_solomon`: picks the fastest instructions of the processor at run time.
#[derive(Debug)]
pub struct DispatchCode(sia_reed_solomon::ReedSolomon);

impl DispatchCode {
    /// The code of a geometry; `None` only if the kernel refuses its shape.
    #[must_use]
    pub fn new(geometry: &Geometry) -> Option<Self> {
        let (data, parity) = (usize::from(geometry.data()), usize::from(geometry.parity()));
        sia_reed_solomon::ReedSolomon::new(data, parity).ok().map(Self)
    }
}

/// A shard as the kernel takes it: it writes parity and only reads data.
enum Lane<'a> {
    Data(&'a [u8]),
    Parity(&'a mut [u8]),
}

impl AsRef<[u8]> for Lane<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Data(bytes) => bytes,
            Self::Parity(bytes) => bytes,
        }
    }
}

impl AsMut<[u8]> for Lane<'_> {
    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            // Never asked for: the kernel's contract is to write the last n - k shards only.
            Self::Data(_) => &mut [],
            Self::Parity(bytes) => bytes,
        }
    }
}

impl ErasureCode for DispatchCode {
    fn data(&self) -> usize {
        self.0.data_shards()
    }

    fn parity(&self) -> usize {
        self.0.parity_shards()
    }

    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), ErasureError> {
        let length = check_encode(self, data, parity)?;
        for start in (0..length).step_by(PIECE) {
            let piece = start..length.min(start + PIECE);
            let mut lanes: Vec<Lane<'_>> = data
                .iter()
                .map(|column| Lane::Data(&column[piece.clone()]))
                .chain(parity.iter_mut().map(|column| Lane::Parity(&mut column[piece.clone()])))
                .collect();
            self.0.encode(&mut lanes).map_err(kernel)?;
        }
        Ok(())
    }

    fn reconstruct(
        &self,
        shards: &mut [Option<Vec<u8>>],
        wanted: &[usize],
    ) -> Result<(), ErasureError> {
        rebuild(self, shards, wanted, |shards| self.0.reconstruct_data(shards).map_err(kernel))
    }
}

/// `reed-solomon-erasure`: portable, slower; the fallback, and the oracle of the tests.
#[derive(Debug)]
pub struct PortableCode {
    data: usize,
    parity: usize,
    /// `None` without parity, which the crate does not know.
    kernel: Option<reed_solomon_erasure::galois_8::ReedSolomon>,
}

impl PortableCode {
    /// The code of a geometry.
    #[must_use]
    pub fn new(geometry: &Geometry) -> Self {
        let (data, parity) = (usize::from(geometry.data()), usize::from(geometry.parity()));
        let kernel = (parity > 0).then(|| {
            reed_solomon_erasure::galois_8::ReedSolomon::new(data, parity)
                .expect("invariant: a geometry has 1 to 255 shards, of which some are data")
        });
        Self { data, parity, kernel }
    }
}

impl ErasureCode for PortableCode {
    fn data(&self) -> usize {
        self.data
    }

    fn parity(&self) -> usize {
        self.parity
    }

    fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), ErasureError> {
        let length = check_encode(self, data, parity)?;
        let Some(code) = &self.kernel else { return Ok(()) };
        for start in (0..length).step_by(PIECE) {
            let piece = start..length.min(start + PIECE);
            let data: Vec<&[u8]> = data.iter().map(|column| &column[piece.clone()]).collect();
            let mut parity: Vec<&mut [u8]> =
                parity.iter_mut().map(|column| &mut column[piece.clone()]).collect();
            code.encode_sep(&data, &mut parity).map_err(kernel)?;
        }
        Ok(())
    }

    fn reconstruct(
        &self,
        shards: &mut [Option<Vec<u8>>],
        wanted: &[usize],
    ) -> Result<(), ErasureError> {
        rebuild(self, shards, wanted, |shards| match &self.kernel {
            Some(code) => code.reconstruct_data(shards).map_err(kernel),
            None => Ok(()),
        })
    }
}

fn kernel(error: impl fmt::Display) -> ErasureError {
    ErasureError::Kernel(error.to_string())
}

/// Checks the shards of an encoding and gives their length.
fn check_encode(
    code: &dyn ErasureCode,
    data: &[&[u8]],
    parity: &[&mut [u8]],
) -> Result<usize, ErasureError> {
    for (expected, actual) in [(code.data(), data.len()), (code.parity(), parity.len())] {
        if expected != actual {
            return Err(ErasureError::Count { expected, actual });
        }
    }
    let lengths = data.iter().map(|column| column.len());
    common_length(lengths.chain(parity.iter().map(|column| column.len())).enumerate())
}

/// The one length that all shards have.
fn common_length(mut lengths: impl Iterator<Item = (usize, usize)>) -> Result<usize, ErasureError> {
    let (first, expected) = lengths.next().ok_or(ErasureError::TooFew { present: 0, needed: 1 })?;
    if expected == 0 {
        return Err(ErasureError::Length { shard: first, expected: 1, actual: 0 });
    }
    match lengths.find(|(_, length)| *length != expected) {
        Some((shard, actual)) => Err(ErasureError::Length { shard, expected, actual }),
        None => Ok(expected),
    }
}

/// Rebuilds wanted shards: data by the kernel's solver, parity by encoding again.
fn rebuild(
    code: &dyn ErasureCode,
    shards: &mut [Option<Vec<u8>>],
    wanted: &[usize],
    solve_data: impl Fn(&mut [Option<Vec<u8>>]) -> Result<(), ErasureError>,
) -> Result<(), ErasureError> {
    let (data, total) = (code.data(), code.data() + code.parity());
    if shards.len() != total {
        return Err(ErasureError::Count { expected: total, actual: shards.len() });
    }
    if let Some(&shard) = wanted.iter().find(|shard| **shard >= total) {
        return Err(ErasureError::Wanted { shard, total });
    }
    let lengths = shards.iter().enumerate();
    let length = common_length(
        lengths.filter_map(|(shard, bytes)| bytes.as_ref().map(|bytes| (shard, bytes.len()))),
    )
    .map_err(|error| match error {
        ErasureError::TooFew { present, .. } => ErasureError::TooFew { present, needed: data },
        other => other,
    })?;
    let missing: Vec<usize> = (0..total).filter(|shard| shards[*shard].is_none()).collect();
    let lacking: Vec<usize> =
        wanted.iter().copied().filter(|shard| shards[*shard].is_none()).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    if total - missing.len() < data {
        return Err(ErasureError::TooFew { present: total - missing.len(), needed: data });
    }
    solve_data(shards)?;
    if lacking.iter().any(|shard| *shard >= data) {
        encode_missing(code, shards, &lacking, length)?;
    }
    for shard in missing {
        if !lacking.contains(&shard) {
            shards[shard] = None;
        }
    }
    Ok(())
}

/// Computes the lacking parity shards from complete data shards.
fn encode_missing(
    code: &dyn ErasureCode,
    shards: &mut [Option<Vec<u8>>],
    lacking: &[usize],
    length: usize,
) -> Result<(), ErasureError> {
    let (data, parity) = shards.split_at_mut(code.data());
    let data: Vec<&[u8]> = data.iter().flatten().map(Vec::as_slice).collect();
    let mut made: Vec<(usize, Vec<u8>)> = (0..parity.len())
        .filter(|index| lacking.contains(&(index + code.data())))
        .map(|index| (index, vec![0; length]))
        .collect();
    // A kernel computes all parity rows at once; those that nobody wants go to one small scratch.
    let mut scratch = vec![0; parity.len() * PIECE.min(length)];
    for start in (0..length).step_by(PIECE) {
        let piece = start..length.min(start + PIECE);
        let data: Vec<&[u8]> = data.iter().map(|column| &column[piece.clone()]).collect();
        let mut rows: Vec<&mut [u8]> = scratch
            .chunks_exact_mut(PIECE.min(length))
            .map(|row| &mut row[..piece.len()])
            .collect();
        code.encode(&data, &mut rows)?;
        for (index, column) in &mut made {
            column[piece.clone()].copy_from_slice(rows[*index]);
        }
    }
    for (index, column) in made {
        parity[index] = Some(column);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};
    use proptest::test_runner::TestCaseError;

    use super::*;
    use crate::sector::SectorSize;

    fn geometry(data: u8, total: u8) -> Geometry {
        Geometry::with_column(data, total, SectorSize::MIN).unwrap()
    }

    fn columns(count: u8, length: usize, salt: u64) -> Vec<Vec<u8>> {
        let column = |index: u8| {
            let mut bytes = vec![0; length];
            let mut hasher = blake3::Hasher::new();
            hasher.update(&salt.to_le_bytes()).update(&[index]).finalize_xof().fill(&mut bytes);
            bytes
        };
        (0..count).map(column).collect()
    }

    fn coded(code: &dyn ErasureCode, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut parity = vec![vec![0xaa; data[0].len()]; code.parity()];
        let inputs: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        code.encode(&inputs, &mut outputs).unwrap();
        data.iter().cloned().chain(parity).collect()
    }

    fn both(geometry: &Geometry) -> [Box<dyn ErasureCode>; 2] {
        [Box::new(DispatchCode::new(geometry).unwrap()), Box::new(PortableCode::new(geometry))]
    }

    /// Keeps `keep` shards in an order drawn from `salt`, wants the others that `salt` draws.
    fn any_k_rebuild(
        code: &dyn ErasureCode,
        all: &[Vec<u8>],
        order: &[u64],
    ) -> Result<(), TestCaseError> {
        let mut shuffled: Vec<usize> = (0..all.len()).collect();
        shuffled.sort_by_key(|shard| order[*shard % order.len()].rotate_left(*shard as u32));
        let (kept, lost) = shuffled.split_at(code.data());
        let wanted: Vec<usize> =
            lost.iter().copied().filter(|shard| order[0] >> (shard % 64) & 1 == 1).collect();
        let mut shards: Vec<Option<Vec<u8>>> = vec![None; all.len()];
        for shard in kept {
            shards[*shard] = Some(all[*shard].clone());
        }
        code.reconstruct(&mut shards, &wanted).unwrap();
        for (shard, bytes) in shards.iter().enumerate() {
            let known = kept.contains(&shard) || wanted.contains(&shard);
            prop_assert_eq!(bytes.as_ref(), known.then_some(&all[shard]), "shard {}", shard);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn kernels_agree_and_any_k_of_n_rebuild(
            data in 1u8..20, extra in 0u8..25, length in 1usize..3_000, salt: u64,
            order in proptest::collection::vec(any::<u64>(), 45),
        ) {
            let geometry = geometry(data, data + extra);
            let columns = columns(data, length, salt);
            let [fast, portable] = both(&geometry);
            let all = coded(&*fast, &columns);
            prop_assert_eq!(&all, &coded(&*portable, &columns));
            any_k_rebuild(&*fast, &all, &order)?;
            any_k_rebuild(&*portable, &all, &order)?;
        }

        #[test]
        fn any_range_codes_and_rebuilds_like_the_whole(
            data in 1u8..8, extra in 1u8..8, a in 0usize..70_000, b in 0usize..70_000, salt: u64,
            order in proptest::collection::vec(any::<u64>(), 15),
        ) {
            let geometry = geometry(data, data + extra);
            let code = code_for(&geometry);
            let all = coded(&*code, &columns(data, 70_000, salt));
            let range = a.min(b)..a.max(b) + 1;
            let parts: Vec<Vec<u8>> =
                all.iter().map(|column| column[range.clone()].to_vec()).collect();
            prop_assert_eq!(&coded(&*code, &parts[..usize::from(data)]), &parts);
            any_k_rebuild(&*code, &parts, &order)?;
        }
    }

    #[test]
    fn the_widest_codes_work() {
        for (data, total) in [(1, 1), (1, 255), (255, 255), (254, 255), (128, 255)] {
            let geometry = geometry(data, total);
            let columns = columns(data, 100, 1);
            let [fast, portable] = both(&geometry);
            let all = coded(&*fast, &columns);
            assert_eq!(all, coded(&*portable, &columns), "{data} of {total}");
            let mut shards: Vec<Option<Vec<u8>>> = all.iter().cloned().map(Some).collect();
            let lost: Vec<usize> = (0..usize::from(total - data)).collect();
            lost.iter().for_each(|shard| shards[*shard] = None);
            fast.reconstruct(&mut shards, &lost).unwrap();
            assert!(shards.into_iter().flatten().eq(all), "{data} of {total}");
        }
    }

    #[test]
    fn shards_that_do_not_fit_are_refused_and_kept() {
        for code in both(&geometry(2, 4)) {
            let mut short = vec![None, Some(vec![1; 4]), None, None];
            let before = short.clone();
            let too_few = ErasureError::TooFew { present: 1, needed: 2 };
            assert_eq!(code.reconstruct(&mut short, &[0]), Err(too_few));
            assert_eq!(short, before);
            let mut none = vec![None; 4];
            let too_few = ErasureError::TooFew { present: 0, needed: 2 };
            assert_eq!(code.reconstruct(&mut none, &[0]), Err(too_few));
            let mut uneven = vec![Some(vec![1; 4]), Some(vec![1; 5]), None, None];
            let length = ErasureError::Length { shard: 1, expected: 4, actual: 5 };
            assert_eq!(code.reconstruct(&mut uneven, &[2]), Err(length));
            let wanted = ErasureError::Wanted { shard: 4, total: 4 };
            assert_eq!(code.reconstruct(&mut vec![Some(vec![1]); 4], &[4]), Err(wanted));
            assert!(code.reconstruct(&mut vec![None; 3], &[0]).is_err());
            assert!(code.reconstruct(&mut vec![Some(Vec::new()); 4], &[0]).is_err());
            assert!(code.encode(&[&[1]], &mut [&mut [0], &mut [0]]).is_err());
            assert!(code.encode(&[&[1], &[1, 2]], &mut [&mut [0], &mut [0]]).is_err());
            assert!(code.encode(&[&[], &[]], &mut [&mut [], &mut []]).is_err());
        }
    }
}
