//! How a crash came about, to be told when what it leaves is wrong.

use std::fmt::{self, Write as _};
use std::rc::Rc;

use crate::image::{Image, load};
use crate::record::Event;

/// Crashes that happened one inside the recovery from the other.
pub struct Story {
    /// The crash before this one.
    pub before: Option<Rc<Story>>,
    /// How many there were before this one.
    pub depth: u32,
    /// Where in the program it came.
    pub point: Point,
    /// What it left.
    pub image: Image,
}

/// A place in a recording.
#[derive(Clone, Debug)]
pub struct Point {
    /// The next event; `None`: the end.
    pub next: Option<Event>,
    /// How many events there were.
    pub events: usize,
    /// How many of them were marks.
    pub marks: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.next {
            Some(Event::Fence { thread, site, .. }) => {
                write!(out, "before the fence of {}:{} (thread {thread})", site.file(), site.line())?;
            }
            Some(Event::Grow { to }) => write!(out, "before the file grows to {to} bytes")?,
            Some(_) => write!(out, "before a commit is reported")?,
            None => write!(out, "at the end")?,
        }
        write!(out, ", event {}, after {} marks", self.events, self.marks)
    }
}

impl fmt::Display for Story {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = &self.before {
            write!(out, "{before}inside its recovery, ")?;
        }
        writeln!(out, "a crash {}, of {} bytes; beside what was durable:", self.point, self.image.len)?;
        let mut text = String::new();
        for (at, word) in self.image.words.iter().take(40) {
            let durable = load(&self.image.base[*at as usize..][..8]);
            writeln!(text, "    {at}: {durable:#018x} -> {word:#018x}")?;
        }
        if self.image.words.len() > 40 {
            writeln!(text, "    ... {} words in all", self.image.words.len())?;
        }
        out.write_str(if self.image.words.is_empty() { "    nothing\n" } else { &text })
    }
}
