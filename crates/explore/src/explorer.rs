//! The explorer: crashes a recorded program at every point, recovers from each image, crashes the recovery too, and holds
//! what it finds against what is legal.
//!
//! What may have reached the medium only grows between two fences. So all images just before a fence, before the file
//! grows, before a mark and at the end are all images at all points.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use crate::choice::{Chance, Choices, sample};
use crate::image::{Hash, Image, Pass};
use crate::medium::{Medium, Removed};
use crate::plan::{Plan, Report, Width};
use crate::record::{Event, Log, Recorder};
use crate::story::Story;
use crate::walk::Walk;

/// What is explored: a program that keeps something in a region.
pub trait Subject {
    /// The running program.
    type Open;
    /// Everything that it keeps.
    type Contents: Clone + Eq + std::fmt::Debug;

    /// Starts it over what a crash left.
    fn open(&self, region: Recorder) -> Result<Self::Open, String>;
    /// All that it keeps; an error tells of damage, or of space that nobody has.
    fn contents(&self, open: &Self::Open) -> Result<Self::Contents, String>;
    /// In how many ways `go_on` can use it. The first must work after every recovery; the others are crashed too.
    fn ways(&self) -> usize;
    /// Uses it after a recovery, and returns what it keeps then; an error: that is not what it should keep.
    fn go_on(&self, open: &Self::Open, way: usize, before: &Self::Contents) -> Result<Self::Contents, String>;
    /// Whether a crash between two reports may leave `found`.
    fn is_legal(&self, before: &Self::Contents, after: &Self::Contents, found: &Self::Contents) -> bool {
        found == before || found == after
    }
}

/// A program that ran to its end.
pub struct Recording<C> {
    /// What the file held before.
    pub start: Vec<u8>,
    /// What it kept then, and at each mark.
    pub states: Vec<C>,
    /// What happened.
    pub log: Log,
}

/// Explores a recording.
pub fn explore<S: Subject>(subject: &S, plan: &Plan, recording: &Recording<S::Contents>) -> Report {
    let chance = Chance::new(plan.seed);
    let (states, recovered, classes, to_go_on, report) = Default::default();
    let mut explorer = Explorer { subject, plan, chance, states, recovered, classes, to_go_on, report };
    explorer.report.violation = explorer.run(recording).err();
    explorer.report
}

struct Explorer<'a, S: Subject> {
    subject: &'a S,
    plan: &'a Plan,
    chance: Chance,
    /// Everything that was ever found in an image, by number.
    states: Vec<S::Contents>,
    /// The media that recoveries left, and how many there are of each class.
    recovered: HashSet<Hash, Pass>,
    classes: HashMap<(u32, Hash), u32>,
    /// Images that lead to them.
    to_go_on: Vec<Rc<Story>>,
    report: Report,
}

/// A violation ends the exploration.
type Explored<T> = std::result::Result<T, String>;

/// The numbers of what an image may hold: what there was at one report, or at the next.
type Legal = (u32, u32);

impl<S: Subject> Explorer<'_, S> {
    fn run(&mut self, recording: &Recording<S::Contents>) -> Explored<()> {
        let states: Vec<u32> = recording.states.iter().map(|state| self.number(state)).collect();
        let medium = Medium::of_file(self.plan.kind, self.plan.removed, recording.start.clone());
        self.crash_program(medium, &recording.log, &states, None)?;
        self.report.crashed = self.report.seen.len() as u64;
        while let Some(story) = self.to_go_on.pop() {
            for way in 1..self.subject.ways() {
                self.go_on(&story, way)?;
            }
        }
        Ok(())
    }

    /// Crashes a program at every point. After the nth mark it keeps `states[n]`.
    fn crash_program(
        &mut self,
        mut medium: Medium,
        log: &Log,
        states: &[u32],
        before: Option<&Rc<Story>>,
    ) -> Explored<()> {
        self.note_sites(log);
        let mut walk = Walk::new(log);
        while walk.reach_point(&mut medium) {
            let legal = (states[walk.marks], states[(walk.marks + 1).min(states.len() - 1)]);
            for image in self.unseen(&medium, self.plan.program, legal, &walk, before)? {
                let story = walk.story(image, before);
                // The recovery from another may have led to it meanwhile.
                let state = match self.report.seen.get(&story.image.hash) {
                    Some(state) => *state,
                    None => self.recover_all(&story, before.is_none())?,
                };
                if !self.is_legal(legal, state) {
                    return Err(self.complain(&story, legal, state));
                }
            }
        }
        Ok(())
    }

    /// Recovers from an image, crashes that recovery at every point, recovers from what that leaves, and so on. All of
    /// them must find the same, whose number it returns.
    fn recover_all(&mut self, first: &Rc<Story>, goes_on: bool) -> Explored<u32> {
        let mut all_found = None;
        let mut waiting = vec![first.clone()];
        while let Some(story) = waiting.pop() {
            let bytes = Arc::new(story.image.bytes());
            let (open, region) = self.open(&story, &bytes)?;
            let found = self.look(&story, &open)?;
            let log = region.take();
            self.use_it(&story, &open, 0, found)?;
            let expected = *all_found.get_or_insert(found);
            if found != expected {
                return Err(self.complain(&story, (expected, expected), found));
            }
            self.report.seen.insert(story.image.hash, found);
            self.note_sites(&log);
            let mut medium = Medium::holding(self.plan.kind, self.plan.removed, bytes, story.image.hash);
            let mut walk = Walk::new(&log);
            while walk.reach_point(&mut medium) {
                if story.depth >= self.plan.most_crashes {
                    continue;
                }
                for image in self.unseen(&medium, self.plan.recovery, (found, found), &walk, Some(&story))? {
                    self.report.seen.insert(image.hash, found);
                    waiting.push(walk.story(image, Some(&story)));
                }
            }
            if goes_on {
                self.remember(&medium, found, story);
            }
        }
        Ok(all_found.unwrap_or_default())
    }

    /// Keeps an image to go on from.
    fn remember(&mut self, medium: &Medium, found: u32, story: Rc<Story>) {
        if self.recovered.insert(medium.state_hash()) {
            let class = self.classes.entry((found, medium.pending_hash())).or_default();
            *class += 1;
            if *class <= self.plan.go_on_from {
                self.to_go_on.push(story);
            }
        }
    }

    /// Uses the program after a recovery, and crashes it then.
    fn go_on(&mut self, story: &Rc<Story>, way: usize) -> Explored<()> {
        let bytes = Arc::new(story.image.bytes());
        let (open, region) = self.open(story, &bytes)?;
        let found = self.look(story, &open)?;
        region.mark();
        let after = self.use_it(story, &open, way, found)?;
        region.mark();
        let states = [found, found, after];
        let medium = Medium::holding(self.plan.kind, self.plan.removed, bytes, story.image.hash);
        self.crash_program(medium, &region.take(), &states, Some(story))
    }

    /// The images of a point that were not seen yet. One that was, and may not be there, is a violation.
    fn unseen(
        &mut self,
        medium: &Medium,
        width: Width,
        legal: Legal,
        walk: &Walk<'_>,
        before: Option<&Rc<Story>>,
    ) -> Explored<Vec<Image>> {
        let legal_states: Vec<bool> = (0..self.states.len() as u32).map(|state| self.is_legal(legal, state)).collect();
        let mut fresh = Vec::new();
        let mut wrong = None;
        let seen = &self.report.seen;
        let mut sort = |hash: Hash, image: &dyn Fn() -> Image| match seen.get(&hash) {
            None => fresh.push(image()),
            Some(state) if !legal_states[*state as usize] => wrong = Some((image(), *state)),
            Some(_) => {}
        };
        if let Some(choices) = Choices::list(medium, width.all) {
            choices.each(medium.hash(), &mut |hash, picked| sort(hash, &|| medium.image(hash, picked.words())));
            self.report.images += choices.count();
        } else {
            for _ in 0..width.samples {
                let image = sample(medium, &mut self.chance);
                sort(image.hash, &|| image.clone());
            }
            self.report.images += width.samples;
            self.report.sampled_points += 1;
        }
        match wrong {
            Some((image, state)) => Err(self.complain(&walk.story(image, before), legal, state)),
            None => Ok(fresh),
        }
    }

    fn open(&self, story: &Story, bytes: &Arc<Vec<u8>>) -> Explored<(S::Open, Recorder)> {
        let region = Recorder::holding(bytes.to_vec()).with_fault(self.plan.fault);
        let open = guarded(|| self.subject.open(region.clone()));
        Ok((open.map_err(|error| format!("{story}what it left does not open: {error}"))?, region))
    }

    /// Uses the program.
    fn use_it(&mut self, story: &Story, open: &S::Open, way: usize, found: u32) -> Explored<u32> {
        let before = &self.states[found as usize];
        let used = guarded(|| self.subject.go_on(open, way, before));
        Ok(self.number(&used.map_err(|error| format!("{story}what it left cannot be used in way {way}: {error}"))?))
    }

    fn look(&mut self, story: &Story, open: &S::Open) -> Explored<u32> {
        let contents = guarded(|| self.subject.contents(open));
        Ok(self.number(&contents.map_err(|error| format!("{story}what it left is damaged: {error}"))?))
    }

    /// The number of something that an image holds.
    fn number(&mut self, contents: &S::Contents) -> u32 {
        let known = self.states.iter().position(|state| state == contents);
        known.unwrap_or_else(|| {
            self.states.push(contents.clone());
            self.states.len() - 1
        }) as u32
    }

    fn is_legal(&self, (before, after): Legal, found: u32) -> bool {
        let [before, after, found] = [before, after, found].map(|number| &self.states[number as usize]);
        self.subject.is_legal(before, after, found)
    }

    fn complain(&self, story: &Story, (before, after): Legal, found: u32) -> String {
        let [before, after, found] = [before, after, found].map(|number| &self.states[number as usize]);
        format!("{story}what it left holds\n    {found:?}\nwhere it may hold\n    {before:?}\nor\n    {after:?}")
    }

    fn note_sites(&mut self, log: &Log) {
        for event in &log.events {
            let (removed, is_sync) = match event {
                Event::Fence { thread, syncs: false, site } => (Removed { site, thread: Some(*thread) }, false),
                Event::Fence { site, .. } => (Removed { site, thread: None }, true),
                Event::WriteBack { site, .. } => (Removed { site, thread: None }, false),
                _ => continue,
            };
            self.report.sites.insert(removed, is_sync);
        }
    }
}

/// A panic is an error like any other here.
fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("it panicked".into()))
}
