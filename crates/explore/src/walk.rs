//! Walking through a recording, from one point to the next at which a crash is worth while.

use std::rc::Rc;

use crate::image::Image;
use crate::medium::{Kind, Medium};
use crate::record::{Event, Log};
use crate::story::{Point, Story};

/// A file grows by these.
const PAGE: u64 = 4096;

/// Walks a medium through a recording, from point to point.
pub struct Walk<'a> {
    log: &'a Log,
    next: usize,
    /// The marks passed.
    pub marks: usize,
    /// Whether there are images that the point before did not have.
    changed: bool,
    ended: bool,
}

impl<'a> Walk<'a> {
    /// At its start.
    pub fn new(log: &'a Log) -> Self {
        Self { log, next: 0, marks: 0, changed: true, ended: false }
    }

    /// Goes to where more images cannot come any more; false: there is no such point left.
    pub fn reach_point(&mut self, medium: &mut Medium) -> bool {
        while let Some(event) = self.log.events.get(self.next) {
            let is_point = match event {
                Event::Fence { syncs, .. } => *syncs || medium.kind() == Kind::Lines,
                Event::Grow { .. } | Event::Mark => true,
                Event::Store { .. } | Event::Stream { .. } | Event::WriteBack { .. } => false,
            };
            if is_point && std::mem::take(&mut self.changed) {
                return true;
            }
            self.pass(event, medium);
        }
        !std::mem::replace(&mut self.ended, true) && self.changed
    }

    fn pass(&mut self, event: &Event, medium: &mut Medium) {
        match event {
            // A file is lengthened page by page.
            Event::Grow { to } if medium.bytes() + PAGE < *to => {
                medium.apply(&Event::Grow { to: medium.bytes() + PAGE }, self.log);
                self.changed = true;
                return;
            }
            Event::Store { .. } | Event::Stream { .. } | Event::Grow { .. } => self.changed = true,
            Event::Mark => (self.marks, self.changed) = (self.marks + 1, true),
            Event::Fence { .. } | Event::WriteBack { .. } => {}
        }
        medium.apply(event, self.log);
        self.next += 1;
    }

    /// The story of an image of this point.
    pub fn story(&self, image: Image, before: Option<&Rc<Story>>) -> Rc<Story> {
        let depth = before.map_or(0, |before| before.depth + 1);
        let point = Point { next: self.log.events.get(self.next).cloned(), events: self.next, marks: self.marks };
        Rc::new(Story { before: before.cloned(), depth, point, image })
    }
}
