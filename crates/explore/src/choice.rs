//! Choosing what a crash leaves: all images of a medium, or some of them by chance.

use crate::image::{Hash, Image, Word, mix, word_hash};
use crate::medium::{How, Kind, LINE, Medium, WORDS, Write};

/// One of the things that may have happened to a unit: a cache line, or a word of an ordinary file.
#[derive(Clone, Debug)]
struct Outcome {
    /// What it does to the hash of the image.
    change: Hash,
    /// The words that it leaves different from what is durable.
    words: Vec<Word>,
}

/// Everything that may have happened to each unit, each possibility once. One from each unit make an image.
pub struct Choices {
    units: Vec<Vec<Outcome>>,
}

/// A line with more ways than this is not listed.
const MOST_WAYS: u128 = 1 << 16;

impl Choices {
    /// Lists them; `None`: there are more images than `limit`.
    pub fn list(medium: &Medium, limit: u64) -> Option<Self> {
        let mut units = Vec::new();
        let mut images = 1_u64;
        for (line, writes) in medium.pending() {
            let listed = match medium.kind() {
                Kind::Lines => vec![line_outcomes(medium, *line, writes)?],
                Kind::File => word_outcomes(medium, *line, writes),
            };
            for unit in listed.into_iter().filter(|unit| unit.len() > 1) {
                images = images.checked_mul(unit.len() as u64).filter(|images| *images <= limit)?;
                units.push(unit);
            }
        }
        Some(Self { units })
    }

    /// How many images there are.
    pub fn count(&self) -> u64 {
        self.units.iter().map(|unit| unit.len() as u64).product()
    }

    /// Calls `visit` with the hash of each image and how to make it.
    pub fn each(&self, hash: Hash, visit: &mut impl FnMut(Hash, &Picked<'_>)) {
        let mut picked = Picked { choices: self, at: vec![0; self.units.len()] };
        self.each_from(0, hash, &mut picked, visit);
    }

    fn each_from<'a>(
        &'a self,
        unit: usize,
        hash: Hash,
        picked: &mut Picked<'a>,
        visit: &mut impl FnMut(Hash, &Picked<'_>),
    ) {
        let Some(outcomes) = self.units.get(unit) else { return visit(hash, picked) };
        for (number, outcome) in outcomes.iter().enumerate() {
            picked.at[unit] = number;
            self.each_from(unit + 1, hash ^ outcome.change, picked, visit);
        }
    }
}

/// One outcome of each unit.
pub struct Picked<'a> {
    choices: &'a Choices,
    at: Vec<usize>,
}

impl Picked<'_> {
    /// The words that the image has beside what is durable.
    pub fn words(&self) -> Vec<Word> {
        let picked = self.choices.units.iter().zip(&self.at);
        picked.flat_map(|(unit, at)| &unit[*at].words).copied().collect()
    }
}

fn outcome(medium: &Medium, words: impl Iterator<Item = Word>) -> Outcome {
    let words: Vec<Word> = words.filter(|(at, word)| medium.word(*at) != *word).collect();
    let change = |(at, word): &Word| word_hash((*at, medium.word(*at))) ^ word_hash((*at, *word));
    Outcome { change: words.iter().map(change).fold(0, |all, one| all ^ one), words }
}

/// What a line may hold; `None`: too many possibilities.
fn line_outcomes(medium: &Medium, line: u64, writes: &[Write]) -> Option<Vec<Outcome>> {
    if writes.len() > 64 {
        return None;
    }
    let bits = |wanted: &dyn Fn(How) -> bool| {
        (0..writes.len()).filter(|at| wanted(writes[*at].how)).fold(0_u64, |bits, at| bits | 1 << at)
    };
    let streamed = bits(&|how| matches!(how, How::Streamed(_)));
    let prefixes = prefixes(writes)?;
    if (prefixes.len() as u128) << streamed.count_ones() > MOST_WAYS {
        return None;
    }
    let mut found: Vec<[u64; WORDS]> = Vec::new();
    for prefix in prefixes {
        for subset in subsets(streamed) {
            let mut words = durable_line(medium, line);
            for (at, write) in writes.iter().enumerate() {
                if (prefix | subset) >> at & 1 == 1 {
                    let word = &mut words[usize::from(write.word)];
                    *word = write.over(*word);
                }
            }
            found.push(words);
        }
    }
    found.sort_unstable();
    found.dedup();
    let outcomes = found.iter().map(|words| outcome(medium, places(line).zip(*words)));
    Some(outcomes.collect())
}

/// The ways of the plain stores, as bits of `writes`: how many whole ones, and which words of the next.
fn prefixes(writes: &[Write]) -> Option<Vec<u64>> {
    let mut found = vec![0];
    let mut whole = 0_u64;
    let stored = writes.iter().filter(|write| matches!(write.how, How::Stored(_)));
    for store in stored.collect::<Vec<_>>().chunk_by(|one, other| one.how == other.how) {
        let same = |at: &usize| writes[*at].how == store[0].how;
        let bits = (0..writes.len()).filter(same).fold(0_u64, |bits, at| bits | 1 << at);
        if 1_u128 << bits.count_ones() > MOST_WAYS {
            return None;
        }
        found.extend(subsets(bits).filter(|subset| *subset != 0).map(|subset| whole | subset));
        whole |= bits;
    }
    Some(found)
}

/// All subsets of some bits, the empty one first.
fn subsets(bits: u64) -> impl Iterator<Item = u64> {
    let following = move |subset: &u64| Some(subset.wrapping_sub(bits) & bits).filter(|next| *next != 0);
    std::iter::successors(Some(0), following)
}

fn places(line: u64) -> impl Iterator<Item = u64> {
    (0..WORDS as u64).map(move |word| line * LINE + 8 * word)
}

fn durable_line(medium: &Medium, line: u64) -> [u64; WORDS] {
    std::array::from_fn(|word| medium.word(line * LINE + 8 * word as u64))
}

/// What each word of a line of an ordinary file may hold.
fn word_outcomes(medium: &Medium, line: u64, writes: &[Write]) -> Vec<Vec<Outcome>> {
    let of_word = |word: usize| {
        let at = line * LINE + 8 * word as u64;
        let mut values = vec![medium.word(at)];
        for write in writes.iter().filter(|write| usize::from(write.word) == word) {
            values.push(write.over(values[values.len() - 1]));
        }
        values.sort_unstable();
        values.dedup();
        values.into_iter().map(|value| outcome(medium, std::iter::once((at, value)))).collect()
    };
    (0..WORDS).map(of_word).collect()
}

/// Chance, from a seed: the same one gives the same sequence.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Of a seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// True `parts` times of 256.
    pub fn happens(&mut self, parts: u64) -> bool {
        self.number() & 255 < parts
    }
}

/// An image by chance. How much of what is not certain has reached the medium is itself a matter of chance: from nothing
/// to everything.
pub fn sample(medium: &Medium, chance: &mut Chance) -> Image {
    let parts = [0, 8, 64, 128, 192, 248, 256][chance.below(7) as usize];
    let mut words = Vec::new();
    for (line, writes) in medium.pending() {
        let mut values = durable_line(medium, *line);
        let whole = whole_stores(writes, parts, chance);
        for write in writes {
            let reaches = match (medium.kind(), write.how) {
                (Kind::Lines, How::Stored(store)) if store <= whole.0 => true,
                (Kind::Lines, How::Stored(store)) if store > whole.1 => false,
                _ => chance.happens(parts),
            };
            if reaches {
                let word = &mut values[usize::from(write.word)];
                *word = write.over(*word);
            }
        }
        words.extend(places(*line).zip(values).filter(|(at, value)| medium.word(*at) != *value));
    }
    let Outcome { change, words } = outcome(medium, words.into_iter());
    medium.image(medium.hash() ^ change, words)
}

/// The last plain store of a line that has reached the medium whole, and the one behind it, which is torn.
fn whole_stores(writes: &[Write], parts: u64, chance: &mut Chance) -> (u32, u32) {
    let mut stores: Vec<u32> = Vec::new();
    for write in writes {
        match write.how {
            How::Stored(store) if stores.last() != Some(&store) => stores.push(store),
            _ => {}
        }
    }
    let whole = match parts {
        0 => 0,
        _ if chance.happens(parts) => stores.len(),
        _ => chance.below(stores.len() as u64 + 1) as usize,
    };
    let number = |at: usize| stores.get(at).copied().unwrap_or(u32::MAX);
    (if whole == 0 { 0 } else { stores[whole - 1] }, number(whole))
}
