//! Mutations of inputs: what a fuzzer does, without one.

/// Positions of an input that are mutated systematically; more are passed over evenly.
const POSITIONS: usize = 160;
/// Longest input that is made, bytes.
const MAX_INPUT: usize = 64 << 10;
/// Varints at the ends of what lengths can say: 2^7, 2^14, 2^20, 2^32 - 1, 2^63, 2^64 - 1, over-long zero, one
/// that does not end.
const LENGTHS: [&[u8]; 8] = [
    &[0x80, 0x01],
    &[0x80, 0x80, 0x01],
    &[0x80, 0x80, 0x40],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x80, 0x00],
    &[0xff; 20],
];

/// Random numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The sequence of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() % (end.max(1) as u64)) as usize
    }

    fn byte(&mut self) -> u8 {
        self.draw() as u8
    }
}

/// Hands out an input changed in one place in each way: a byte of another value, cut off, a length of
/// another size, a byte too few, some bytes twice.
pub fn systematic(seed: &[u8], mut visit: impl FnMut(&[u8])) {
    visit(seed);
    let step = seed.len().div_ceil(POSITIONS).max(1);
    // Headers and first fields are near the start; they are taken one by one.
    let positions = (0..seed.len()).filter(|at| *at < POSITIONS / 2 || at % step == 0);
    let mut changed = Vec::with_capacity(seed.len() + 32);
    for at in positions {
        let byte = seed[at];
        changed.clear();
        changed.extend_from_slice(seed);
        for other in [0, 1, 0x7f, 0x80, 0xff, byte ^ 1, byte ^ 0x80, byte.wrapping_add(1)] {
            if other != byte {
                changed[at] = other;
                visit(&changed);
            }
        }
        visit(&seed[..at]);
        for length in LENGTHS {
            changed.truncate(at);
            changed.extend_from_slice(length);
            changed.extend_from_slice(&seed[at + 1..]);
            visit(&changed);
        }
        changed.truncate(at);
        changed.extend_from_slice(&seed[at + 1..]);
        visit(&changed);
        let again = at + seed.len().saturating_sub(at).min(16);
        changed.clear();
        changed.extend_from_slice(&seed[..again]);
        changed.extend_from_slice(&seed[at..]);
        visit(&changed);
    }
}

/// An input that a few random changes make of one of the seeds; now and then random bytes.
#[must_use]
pub fn random(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = match seeds.get(chance.below(seeds.len() + 1 + seeds.len() / 16)) {
        Some(seed) => seed.clone(),
        None => (0..chance.below(200)).map(|_| chance.byte()).collect(),
    };
    for _ in 0..=chance.below(6) {
        change(&mut input, seeds, chance);
    }
    input.truncate(MAX_INPUT);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(input.len());
    let span = at..at + chance.below((input.len() - at).min(64) + 1);
    match chance.below(9) {
        0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at & 7)),
        1 => {
            let byte = chance.byte();
            input.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
        }
        2 => input.truncate(at),
        3 => drop(input.drain(span)),
        4 => {
            let part = input[span.clone()].to_vec();
            let times = 1 + chance.below(40);
            drop(input.splice(span.start..span.start, part.repeat(times)));
        }
        5 => {
            let length = LENGTHS[chance.below(LENGTHS.len())];
            drop(input.splice(at..(at + 1).min(input.len()), length.iter().copied()));
        }
        6 => {
            // The end of another one behind the start of this.
            let other = &seeds[chance.below(seeds.len())];
            input.truncate(at);
            input.extend_from_slice(&other[chance.below(other.len())..]);
        }
        7 => {
            let digits = chance.below(1_000_000).to_string().into_bytes();
            drop(input.splice(span, digits));
        }
        _ => {
            let bytes: Vec<u8> = (0..chance.below(24)).map(|_| chance.byte()).collect();
            drop(input.splice(span, bytes));
        }
    }
}
