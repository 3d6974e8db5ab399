use super::*;

/// Every byte for itself: whether it is free.
struct Naive(Vec<bool>);

impl Naive {
    /// The runs of free bytes, as (place, length).
    fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (at, _) in self.0.iter().enumerate().filter(|(_, free)| **free) {
            match runs.last_mut() {
                Some((start, len)) if *start + *len == at as u64 => *len += 1,
                _ => runs.push((at as u64, 1)),
            }
        }
        runs
    }

    /// The shortest run that has `bytes`, the first of several.
    fn best(&self, bytes: u64) -> Option<(u64, u64)> {
        self.runs().into_iter().filter(|(_, len)| *len >= bytes).min_by_key(|(at, len)| (*len, *at))
    }

    fn around(&self, at: u64) -> Option<(u64, u64)> {
        self.runs().into_iter().find(|(start, len)| (*start..start + len).contains(&at))
    }

    fn set(&mut self, at: u64, bytes: u64, free: bool) {
        for byte in &mut self.0[at as usize..(at + bytes) as usize] {
            assert_ne!(*byte, free, "{bytes} bytes at {at}");
            *byte = free;
        }
    }
}

fn runs(holes: &Holes) -> Vec<(u64, u64)> {
    let by_place: Vec<(u64, u64)> = holes.by_place.iter().map(|(at, len)| (*at, *len)).collect();
    let mut by_size: Vec<(u64, u64)> = holes.by_size.iter().map(|(len, at)| (*at, *len)).collect();
    by_size.sort_unstable();
    assert_eq!(by_place, by_size, "the two orders hold different runs");
    by_place
}

#[test]
fn the_best_fit_is_taken_from_its_start() {
    let mut holes = Holes::default();
    for (at, len) in [(0, 50), (100, 20), (200, 30), (300, 20)] {
        assert_eq!(holes.give(at, len), (at, len));
    }
    assert_eq!(holes.take(20), Some((100, 0)));
    assert_eq!(holes.take(20), Some((300, 0)));
    assert_eq!(holes.take(20), Some((200, 10)));
    assert_eq!((holes.take(51), holes.take(50)), (None, Some((0, 0))));
    assert_eq!((runs(&holes), holes.bytes(), holes.longest()), (vec![(220, 10)], 10, 10));
}

#[test]
fn nothing_is_taken_from_nothing() {
    let mut holes = Holes::default();
    assert_eq!((holes.take(1), holes.longest(), holes.bytes()), (None, 0, 0));
}

#[test]
fn neighbours_merge_on_both_sides() {
    for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1]] {
        let mut holes = Holes::default();
        let merged = order.map(|place| holes.give(1000 + place * 10, 10));
        assert_eq!(merged[2], (1000, 30), "{order:?}");
        assert_eq!((runs(&holes), holes.bytes()), (vec![(1000, 30)], 30), "{order:?}");
    }
}

#[test]
fn a_removed_run_is_gone() {
    let mut holes = Holes::default();
    let (at, len) = (holes.give(0, 10), holes.give(10, 10)).1;
    holes.give(40, 5);
    holes.remove(at, len);
    assert_eq!((runs(&holes), holes.bytes(), holes.longest()), (vec![(40, 5)], 5, 5));
}

/// A long random run against every byte for itself.
#[test]
fn taking_and_giving_agree_with_every_byte_for_itself() {
    const BYTES: u64 = 300;
    let (mut holes, mut naive) = (Holes::default(), Naive(vec![false; BYTES as usize]));
    let mut taken = vec![(0, BYTES)];
    let mut random = 1_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..5_000 {
        if next(2) == 0 {
            let longest = [3, 20, 100][next(3) as usize];
            let bytes = 1 + next(longest);
            let best = naive.best(bytes);
            assert_eq!(holes.take(bytes), best.map(|(at, len)| (at, len - bytes)), "round {round}: {bytes} bytes");
            if let Some((at, _)) = best {
                naive.set(at, bytes, false);
                taken.push((at, bytes));
            }
        } else if !taken.is_empty() {
            let (at, len) = taken.swap_remove(next(taken.len() as u64) as usize);
            // A part of it goes back now, the rest another time.
            let part = 1 + next(len);
            let given = if next(2) == 0 { (at, part) } else { (at + len - part, part) };
            naive.set(given.0, given.1, true);
            assert_eq!(Some(holes.give(given.0, given.1)), naive.around(given.0), "round {round}");
            if part < len {
                taken.push((if given.0 == at { at + part } else { at }, len - part));
            }
        }
        assert_eq!(runs(&holes), naive.runs(), "round {round}");
        assert_eq!(holes.bytes(), naive.0.iter().filter(|free| **free).count() as u64, "round {round}");
        let longest = naive.runs().iter().map(|(_, len)| *len).max();
        assert_eq!(holes.longest(), longest.unwrap_or(0), "round {round}");
    }
}
